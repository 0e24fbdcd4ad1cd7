from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline import files
from pipeline.errors import PipelineError
from pipeline.teacher_text import ctranslate2_job, shards, source
from pipeline.teacher_text.shards import Candidate


@given(st.integers(0, 50), st.integers(1, 9), st.integers(1, 4))
def test_the_shares_of_several_workers_are_all_shards_once(sentences, size, of):
    found = shards.divide(Path("train"), sentences, size)
    shares = [shard for number in range(of) for shard in shards.share(found, number + 1, of)]
    assert sorted(shares, key=lambda shard: shard.first) == found
    lines = [line for shard in found for line in range(shard.first, shard.last)]
    assert lines == list(range(sentences))


def test_what_is_written_is_read(tmp_path):
    shard = shards.divide(tmp_path, 5, 3)[1]
    found = {4: [Candidate(-0.25, "Select a range."), Candidate(-0.5, "Choose")], 3: []}
    shards.write(shard, found)
    assert shard.path.name == "00001.tsv"
    assert shard.path.read_text().splitlines()[0] == "5\t-0.25\tSelect a range."
    assert shards.read(shard) == [[], found[4]]


@pytest.mark.parametrize("row", ["x\t1\tText", "1\tText", "0\t1\tText", "1\tgood\tText", "9\t1\tT"])
def test_a_broken_shard_is_an_error_of_one_line(tmp_path, row):
    shard = shards.divide(tmp_path, 5, 3)[0]
    files.write_lines(shard.path, ["2\t1\tText", row])
    with pytest.raises(PipelineError) as error:
        shards.read(shard)
    assert str(shard.path) in str(error.value) and "\n" not in str(error.value)


def test_empty_and_long_sentences_are_counted_and_not_translated(tmp_path):
    files.write_lines(tmp_path / "dict.de.txt", ["a 5", "b 3"])
    lines = ["a b", "", "a a a a", "a x", "b"]
    files.write_lines(tmp_path / "train.de", lines)
    counts = source.faults(tmp_path / "train.de", tmp_path / "dict.de.txt", 3)
    assert counts == {"empty": 1, "too long": 1, "with unknown types": 1}
    wanted = shards.divide(tmp_path, 5, 2)[1:]
    found = [dict(of) for _, of in source.sentences(tmp_path / "train.de", wanted, 3)]
    assert found == [{3: ["a", "x"]}, {4: ["b"]}]


@given(st.dictionaries(st.integers(0, 99), st.lists(st.just("a"), min_size=1, max_size=9)))
def test_batches_hold_each_sentence_once_and_no_more_than_they_may(found):
    batches = list(ctranslate2_job.batches(found, 12))
    assert sorted(line for batch in batches for line in batch) == sorted(found)
    for batch in batches:
        assert len(batch) * max(len(found[line]) for line in batch) <= 12
