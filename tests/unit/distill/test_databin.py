"""Data-bins as they are loaded, and what is wrong with them, in one line."""

from __future__ import annotations

import pytest

from ka_fairseq.distill import databin
from ka_fairseq.errors import UserError
from tests.databins import write_dictionary, write_split

GERMAN = ["ein Satz", "", "noch ein Satz hier"]
ENGLISH = ["a sentence", "", "another one"]


@pytest.fixture
def folder(tmp_path):
    write_dictionary(tmp_path / "dict.de.txt", ["ein", "Satz", "noch"])
    write_dictionary(tmp_path / "dict.en.txt", ["a", "sentence", "another", "one"])
    write_split(tmp_path, "train", {"de": GERMAN, "en": ENGLISH})
    return tmp_path


def load(*folders, source="de", target="en", split="train"):
    names = ":".join(map(str, folders))
    return databin.load(databin.config(names, source, target), split)


def words(text, data, lines=None):
    source, _ = data.dictionaries
    lines = range(len(text)) if lines is None else lines
    return [" ".join(databin.subwords(text.sources[line], source)) for line in lines]


def test_sentences_are_read_with_their_references(folder):
    data = load(folder)
    (text,) = data.texts
    assert words(text, data) == ["ein Satz", "", "noch ein Satz <unk>"]
    assert text.sizes.tolist() == [3, 1, 5]
    assert text.references[1].tolist() == [data.dictionaries[1].eos()]
    assert [databin.unknown(text.sources[n], data.dictionaries[0]) for n in range(3)] == [
        *(False, False),
        True,
    ]


def test_languages_are_found_as_fairseq_finds_them(folder):
    assert load(folder, source=None, target=None).languages == ("de", "en")
    data = load(folder, source="en", target="de")  # the files say de-en
    assert words(data.texts[0], data) == [*ENGLISH[:2], "another one"]


def test_source_text_alone_has_no_references(folder):
    for end in ("bin", "idx"):
        (folder / f"train.de-en.en.{end}").unlink()
    assert load(folder).texts[0].references is None


def test_parts_follow_each_other(folder, tmp_path):
    other = tmp_path / "other"
    for language in ("de", "en"):
        write_dictionary(other / f"dict.{language}.txt", ["ein"])
    write_split(other, "train", {"de": ["Satz"], "en": ["one"]})
    write_split(folder, "train1", {"de": ["noch"], "en": ["another"]})
    data = load(folder, other)
    assert len(data.texts[0]) == 5
    assert words(data.texts[0], data, [3]) == ["noch"]
    assert len(data.texts[0].files) == 6  # .bin and .idx of train, train1 and the other folder's


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "dict.en.txt").unlink(), r"no dict\.en\.txt in .*there: dict\.de\.txt\)"),
        (lambda f: (f / "train.de-en.de.idx").unlink(), "has no split train of de-en"),
        (lambda f: (f / "train.de-en.de.bin").write_bytes(b"\0"), "split train in .* cannot be"),
        (lambda f: (f / "train.de-en.de.idx").write_bytes(b"none"), "cannot be read"),
    ],
)
def test_what_is_missing_or_damaged_is_one_line(folder, spoil, says):
    spoil(folder)
    with pytest.raises(UserError, match=says) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_monolingual_text_is_a_data_bin_or_a_file(folder, tmp_path):
    data = load(folder)
    mono = tmp_path / "mono"
    write_dictionary(mono / "dict.de.txt", ["ein", "Satz", "noch"])
    write_split(mono, "train", {"de": ["noch ein"]})
    (tmp_path / "text").write_text("noch ein\n\n", encoding="utf-8")
    for prefix, expected in ((mono / "train", ["noch ein"]), (tmp_path / "text", ["noch ein", ""])):
        text = databin.monolingual(data, prefix, tmp_path / "ids")
        assert words(text, data) == expected and text.references is None
    assert [path.suffix for path in text.files] == [".bin", ".idx"]


def test_monolingual_text_of_another_dictionary_is_refused(folder, tmp_path):
    mono = tmp_path / "mono"
    write_dictionary(mono / "dict.de.txt", ["anders"])
    write_split(mono, "train", {"de": ["anders"]})
    for prefix, says in ((mono / "train", "differs from"), (mono / "none", "give the prefix")):
        with pytest.raises(UserError, match=says):
            databin.monolingual(load(folder), prefix, tmp_path)


def test_a_batch_is_padded_as_fairseq_pads_it(folder):
    data = load(folder)
    (text,) = data.texts
    batch = data.collate([0, 2], [text.sources[0], text.sources[2]])
    assert batch["id"].tolist() == [2, 0]  # the longest first
    tokens = batch["net_input"]["src_tokens"]
    assert tokens.shape == (2, 5) and tokens[1, 0] == data.dictionaries[0].pad()
