"""Mean entropy against float64 and fairseq's own softmax."""

from __future__ import annotations

import numpy as np
import pytest

from ka_fairseq.analysis.entropy import TEACHER, entropy


def test_entropy_is_that_of_the_plain_formula(corpus, trained, all_lprobs):
    frame = entropy(corpus, trained.runs[:1], str(trained.teacher))
    files = [*trained.runs[0].checkpoints.values(), trained.teacher]
    assert list(frame.run) == ["KD"] * 4 + [TEACHER]
    assert frame.epoch.tolist()[:4] == [0, 1, 2, 3]
    for value, file in zip(frame.entropy_bits, files, strict=True):
        lprobs = all_lprobs(file)
        bits = -(np.exp(lprobs) * lprobs).sum(-1).mean() / np.log(2)
        assert value == pytest.approx(bits, rel=1e-5)


def test_batch_size_does_not_matter(trained):
    one, many = (
        entropy(trained.corpus(max_tokens=size), trained.runs[1:]).entropy_bits
        for size in (1, 100_000)
    )
    assert one.to_numpy() == pytest.approx(many.to_numpy(), rel=1e-6)
