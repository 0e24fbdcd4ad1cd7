"""The ranking loss adds to no token twice at once, which a GPU would do in any order."""

import torch

from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.divergences import FORWARD_KL
from ka_fairseq.loss.divergences.ranking import WithRanking, ranking_term


def test_each_of_its_terms_has_a_token_once_and_together_they_are_the_loss():
    generator = torch.Generator().manual_seed(1)
    logits = [torch.randn(6, 40, generator=generator, dtype=torch.float64) for _ in range(2)]
    p, q = (Distribution.of_logits(of_model) for of_model in logits)
    whole = ranking_term(p, q, 4)
    assert any(len(set(row)) < 8 for row in whole.support.tolist())  # some are among both's best
    (_, _), *parts = WithRanking(FORWARD_KL, 4).terms(p, q)
    assert all(len(set(row)) == 4 for _, part in parts for row in part.support.tolist())
    torch.testing.assert_close(sum(part.value for _, part in parts), whole.value)
    torch.testing.assert_close(sum(part.slope_sum for _, part in parts), whole.slope_sum)
    one, other = torch.zeros(2, 6, 40, dtype=torch.float64)
    whole.add_to(one, 0.5)
    for share, part in parts:
        part.add_to(other, 0.5 * share)
    torch.testing.assert_close(one, other)
