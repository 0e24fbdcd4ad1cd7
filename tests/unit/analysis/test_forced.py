"""Teacher forcing: every position once, the right numbers, whatever the batch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from ka_fairseq.analysis import forced
from ka_fairseq.errors import UserError


def gather(corpus, models, sentences):
    """All chunks of a walk, sorted by row."""
    chunks = list(corpus.walk(models, sentences))
    order = torch.cat([chunk.rows for chunk in chunks]).argsort()
    columns = [
        torch.cat([getattr(chunk, name) for chunk in chunks])[order]
        for name in ("rows", "sentences", "positions", "targets")
    ]
    lprobs = [
        torch.cat([chunk.lprobs[index] for chunk in chunks])[order] for index in range(len(models))
    ]
    return columns, lprobs


def test_every_position_once_in_the_order_asked_for(corpus, trained):
    sentences = np.array([7, 2, 30])
    (rows, where, positions, targets), _ = gather(corpus, [corpus.load(trained.start)], sentences)
    expected = [corpus.dataset[sentence]["target"].tolist() for sentence in sentences]
    assert targets.tolist() == list(itertools.chain(*expected))
    assert rows.tolist() == list(range(corpus.count_positions(sentences)))
    assert where.tolist() == [s for s, e in zip(sentences, expected, strict=True) for _ in e]
    assert positions.tolist() == [place for e in expected for place in range(len(e))]


def test_log_probabilities_are_fairseq_s(corpus, trained, all_lprobs):
    sentences = corpus.all_sentences()
    files = [trained.start, trained.teacher]
    _, lprobs = gather(corpus, [corpus.load(file) for file in files], sentences)
    for file, values in zip(files, lprobs, strict=True):
        assert values.dtype == torch.float32
        assert np.abs(values.numpy() - all_lprobs(file)).max() < 1e-4


@pytest.mark.parametrize("max_tokens", [1, 100, 100_000])
def test_batch_size_does_not_matter(corpus, trained, max_tokens):
    other = trained.corpus(max_tokens=max_tokens)
    sentences = corpus.all_sentences()
    columns, (lprobs,) = gather(corpus, [corpus.load(trained.start)], sentences)
    other_columns, (other_lprobs,) = gather(other, [other.load(trained.start)], sentences)
    assert all(map(torch.equal, columns, other_columns))
    assert torch.allclose(lprobs, other_lprobs, atol=1e-4)


def test_chunks_are_bounded(corpus, trained, monkeypatch):
    monkeypatch.setattr(forced, "chunk_rows", lambda *_: 5)
    models = [corpus.load(trained.start)]
    sizes = [len(chunk.rows) for chunk in corpus.walk(models, corpus.all_sentences())]
    assert max(sizes) == 5
    assert sum(sizes) == corpus.count_positions(corpus.all_sentences())


def test_ensemble_averages_probabilities(corpus, trained, plain_lprobs):
    files = [trained.start, trained.runs[0].last]
    _, (lprobs,) = gather(corpus, [corpus.load(":".join(map(str, files)))], np.array([3]))
    mean = sum(np.exp(plain_lprobs(file, 3)) for file in files) / 2
    assert np.exp(lprobs.numpy()) == pytest.approx(mean, abs=1e-6)


def test_sample_is_a_seeded_draw(corpus):
    drawn = corpus.sample(10, seed=1)
    assert np.array_equal(drawn, corpus.sample(10, seed=1))
    assert not np.array_equal(drawn, corpus.sample(10, seed=2))
    assert len(set(drawn.tolist())) == 10
    assert np.array_equal(corpus.sample(10**6, seed=1), corpus.all_sentences())


def test_says_what_is_wrong(trained, corpus, tmp_path):
    open_corpus = forced.Corpus.open
    with pytest.raises(UserError, match="there: train, valid"):
        open_corpus(trained.data, "test", trained.start)
    with pytest.raises(UserError, match="--data"):
        open_corpus(tmp_path, "valid", trained.start)
    with pytest.raises(UserError, match="de-fr"):
        open_corpus(trained.data, "valid", trained.start, ("de", "fr"))
    with pytest.raises(UserError, match="no checkpoint at"):
        open_corpus(trained.data, "valid", tmp_path / "none.pt")
    with pytest.raises(UserError, match="--sentence"):
        corpus.check_sentence(10**6)
    with pytest.raises(UserError, match="--position"):
        corpus.check_sentence(0, 10**6)
