"""The data-bin that is written, of translations that the test makes."""

from __future__ import annotations

import json

import pytest

from ka_fairseq.distill import databin, shards, write
from ka_fairseq.distill.filters import Filters
from ka_fairseq.distill.nearness import chrf
from ka_fairseq.distill.shards import Candidate
from ka_fairseq.distill.translations import Translations, made_of
from ka_fairseq.distill.write import Choice, Part
from ka_fairseq.errors import UserError
from tests.databins import read_split, write_dictionary, write_split

GERMAN = ["ein@@ s", "zwei", "drei", "vier", "ein@@ s"]
ENGLISH = ["one", "two", "three", "four", "one"]
FOUND = {
    0: [Candidate(-1.0, "o@@ ne"), Candidate(-2.0, "one")],
    1: [Candidate(-1.0, "four"), Candidate(-2.0, "two")],
    2: [Candidate(-1.0, "three <unk>")],
    4: [Candidate(-1.0, "o@@ ne"), Candidate(-2.0, "two")],
}
CHOICE = Choice(chrf, Filters(), "subword_nmt")


@pytest.fixture
def data(tmp_path):
    """A data-bin with valid and test; of five sentences four are translated, in two shards."""
    folder = tmp_path / "bin"
    write_dictionary(folder / "dict.de.txt", ["ein@@", "s", "zwei", "drei", "vier"])
    write_dictionary(folder / "dict.en.txt", ["o@@", "ne", "one", "two", "three", "four"])
    write_split(folder, "train", {"de": GERMAN, "en": ENGLISH})
    for split in ("valid", "test", "test1"):
        write_split(folder, split, {"de": ["zwei"], "en": ["two"]})
    return databin.load(databin.config(folder, "de", "en"), "train")


@pytest.fixture
def translations(data, tmp_path):
    folder = tmp_path / "translations"
    found = Translations.begin(folder, data.texts, made_of(data, [], {}, 3))
    for shard in found.shards(data.texts[0]):
        shards.write(shard, {line: FOUND[line] for line in shard.lines if line in FOUND})
    return found


def lines(folder):
    sides = [read_split(folder, "train", language) for language in ("de", "en")]
    return [" = ".join(pair) for pair in zip(*sides, strict=True)]


def test_the_best_are_written_without_what_is_not_fit(data, translations, tmp_path):
    told = write.write(data, [Part("best", 1, translations)], CHOICE, tmp_path / "out", {})
    assert lines(tmp_path / "out") == ["ein@@ s = o@@ ne", "zwei = four"]
    counts = {"kept": 2, "duplicates": 1, "with unknown types": 1, "without translation": 1}
    assert told == {"pairs": 2, "kept": {"best": counts}}
    assert json.loads((tmp_path / "out" / "distill.json").read_text("utf-8")) == told


def test_words_are_what_is_compared(data, translations, tmp_path):
    """The reference is nearest to itself; its first candidate has the same words."""
    write.write(data, [Part("closest", 1, translations)], CHOICE, tmp_path / "words", {})
    assert lines(tmp_path / "words") == ["ein@@ s = o@@ ne", "zwei = two"]
    subwords = Choice(chrf, Filters(), None)
    write.write(data, [Part("closest", 1, translations)], subwords, tmp_path / "subwords", {})
    assert lines(tmp_path / "subwords")[0] == "ein@@ s = one"


def test_parts_count_as_often_as_they_say(data, translations, tmp_path):
    parts = [Part(write.REFERENCES, 2), Part("best", 2, translations)]
    told = write.write(data, parts, CHOICE, tmp_path / "out", {"choose": "best:2"})
    originals = [" = ".join(pair) for pair in zip(GERMAN, ENGLISH, strict=True)]
    chosen = ["ein@@ s = o@@ ne", "zwei = four"]
    assert lines(tmp_path / "out") == originals * 2 + chosen * 2
    assert told["pairs"] == 14 and told["kept"]["references"] == {"kept": 5}
    assert told["choose"] == "best:2"


def test_all_else_is_as_it_was(data, translations, tmp_path):
    write.write(data, [Part("best", 1, translations)], CHOICE, tmp_path / "out", {})
    before, after = (
        {path.name: path.read_bytes() for path in folder.iterdir() if "train" not in path.name}
        for folder in (data.folder, tmp_path / "out")
    )
    assert after.pop("distill.json")
    assert before == after and len(before) == 2 + 3 * 4


def test_nothing_of_somebody_elses_is_replaced(data, translations, tmp_path):
    part = Part("best", 1, translations)
    with pytest.raises(UserError, match="is the data-bin itself: name another folder"):
        write.write(data, [part], CHOICE, data.folder, {})
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "train.de-en.de.bin").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"has train\.de-en\.de\.bin, which this command did not"):
        write.write(data, [part], CHOICE, foreign, {})
    assert (foreign / "train.de-en.de.bin").read_bytes() == b"mine"
    for _ in range(2):  # its own is written again
        write.write(data, [part], CHOICE, tmp_path / "out", {})


def test_nothing_left_is_an_error(data, translations, tmp_path):
    strict = Choice(chrf, Filters(max_ratio=0.9), None)
    with pytest.raises(UserError, match=r"no translation is left .*\(3 lengths too different"):
        write.write(data, [Part("mbr", 1, translations)], strict, tmp_path / "out", {})
    assert not (tmp_path / "out" / "distill.json").exists()


def test_it_is_done_where_it_is_made_of_the_same(data, translations, tmp_path):
    record = {"metric": "chrf"}
    assert write.done(tmp_path / "out", record) is None
    write.write(data, [Part("best", 1, translations)], CHOICE, tmp_path / "out", record)
    assert write.done(tmp_path / "out", record)["pairs"] == 2
    assert write.done(tmp_path / "out", {"metric": "bleu"}) is None


def test_duplicates_are_kept_where_they_are_asked_for(data, translations, tmp_path):
    choice = Choice(chrf, Filters(drop_duplicates=False), "subword_nmt")
    write.write(data, [Part("best", 1, translations)], choice, tmp_path / "out", {})
    assert len(lines(tmp_path / "out")) == 3
