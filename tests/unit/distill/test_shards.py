from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.distill import shards
from ka_fairseq.distill.batches import batches
from ka_fairseq.distill.shards import Candidate
from ka_fairseq.errors import UserError


@given(st.integers(0, 50), st.integers(1, 9))
def test_shards_have_all_lines_once(sentences, size):
    found = shards.divide(Path("train"), sentences, size)
    assert [line for shard in found for line in shard.lines] == list(range(sentences))
    assert all(len(shard) <= size for shard in found)


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
    shard.path.write_text(f"2\t1\tText\n{row}\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        shards.read(shard)
    assert str(shard.path) in str(error.value) and "\n" not in str(error.value)


def test_a_shard_that_is_gone_or_damaged_is_an_error_of_one_line(tmp_path):
    (shard,) = shards.divide(tmp_path, 3, 3)
    for content in (None, b"1\t0\t\xff\n"):
        if content is not None:
            shard.path.write_bytes(content)
        with pytest.raises(UserError, match=r"00000\.tsv cannot be read .* to translate"):
            shards.read(shard)


@given(st.dictionaries(st.integers(0, 99), st.lists(st.just("a"), min_size=1, max_size=9)))
def test_batches_hold_each_sentence_once_and_no_more_than_they_may(found):
    made = list(batches(found, 12))
    assert sorted(line for batch in made for line in batch) == sorted(found)
    for batch in made:
        assert len(batch) * max(len(found[line]) for line in batch) <= 12
