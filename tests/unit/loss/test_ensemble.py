"""Single tokens' log-probabilities from hidden states and normalizers."""

import dataclasses

import torch

from ka_fairseq.loss.ensemble import GatheredDistribution, TeacherOutput
from ka_fairseq.loss.projection import Projection
from tests.support import projection, whole_logits

N, V = 6, 30
ROWS = slice(1, 5)


def member(seed, width):
    bare = projection(seed, N, width, V)
    return dataclasses.replace(bare, log_normalizer=whole_logits(bare).logsumexp(-1).detach())


def test_gathered_tokens_have_the_whole_distributions_log_probabilities():
    tokens = torch.tensor([[0, 29, 7], [1, 1, 2], [3, 4, 5], [28, 0, 9]])
    for members in ([member(1, 4)], [member(1, 4), member(2, 9)]):
        teacher = TeacherOutput(members, entropy=torch.arange(N, dtype=torch.float64))
        assert teacher.can_be_gathered(3)
        gathered = GatheredDistribution(teacher, ROWS)
        torch.testing.assert_close(gathered.at(tokens), teacher.distribution(ROWS).at(tokens))
        assert gathered.entropy.tolist() == [1, 2, 3, 4]


def test_without_normalizers_or_entropy_the_whole_is_needed():
    bare = Projection(*member(1, 4).inputs)
    assert not TeacherOutput([bare], torch.zeros(N)).can_be_gathered(1)
    assert not TeacherOutput([member(1, 4)]).can_be_gathered(1)


def test_no_more_is_gathered_than_the_logits_that_it_spares():
    """k rows of the projection a position: V = 30 logits are the measure."""
    narrow = TeacherOutput([member(1, 4)], torch.zeros(N))
    assert narrow.can_be_gathered(7) and not narrow.can_be_gathered(8)
    both = TeacherOutput([member(1, 4), member(2, 9)], torch.zeros(N))
    assert both.can_be_gathered(3) and not both.can_be_gathered(4)
