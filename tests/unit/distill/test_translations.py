"""A folder of translations goes with what it was made of, and with nothing else."""

from __future__ import annotations

import pytest

from ka_fairseq.distill import databin, shards
from ka_fairseq.distill.translations import Translations, made_of
from ka_fairseq.errors import UserError
from ka_fairseq.teacher.cache.share import ALL, Share
from tests.databins import write_dictionary, write_split


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "bin"
    for language in ("de", "en"):
        write_dictionary(folder / f"dict.{language}.txt", ["a", "b"])
    write_split(folder, "train", {"de": ["a"] * 7, "en": ["b"] * 7})
    return databin.load(databin.config(folder, "de", "en"), "train")


@pytest.fixture
def teacher(tmp_path):
    path = tmp_path / "teacher.pt"
    path.write_bytes(b"weights")
    return path


def test_shares_have_all_shards_once_and_those_that_are_there_are_left(data, teacher, tmp_path):
    made = made_of(data, [teacher], {"beam": 4}, 2)
    found = Translations.begin(tmp_path / "t", data.texts, made)
    names = [[shard.path.name for _, shard in found.missing(Share(number, 2))] for number in (1, 2)]
    assert names == [["00000.tsv", "00002.tsv"], ["00001.tsv", "00003.tsv"]]
    shards.write(found.shards(data.texts[0])[1], {})
    assert [shard.number for _, shard in found.missing(ALL)] == [0, 2, 3]


@pytest.mark.parametrize("what", ["teacher", "train", "dictionaries", "beam", "sentences a file"])
def test_other_settings_are_refused_with_what_differs(data, teacher, tmp_path, what):
    made = made_of(data, [teacher], {"beam": 4}, 2)
    Translations.begin(tmp_path / "t", data.texts, made)
    beam, size = 4, 2
    if what == "teacher":
        teacher.write_bytes(b"others")
    elif what == "train":
        write_split(data.folder, "train", {"de": ["b"] * 7, "en": ["b"] * 7})
    elif what == "dictionaries":
        data.dictionaries[1].add_symbol("c")
    else:
        beam, size = (5, 2) if what == "beam" else (4, 3)
    with pytest.raises(UserError, match=f"translations with another {what} \\("):
        Translations.begin(
            tmp_path / "t", data.texts, made_of(data, [teacher], {"beam": beam}, size)
        )


def test_files_of_unknown_origin_are_not_taken_for_translations(data, teacher, tmp_path):
    (tmp_path / "t" / "train").mkdir(parents=True)
    (tmp_path / "t" / "train" / "00000.tsv").write_text("1\t0\tWords.\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"has translations but no translations\.json"):
        Translations.begin(tmp_path / "t", data.texts, made_of(data, [teacher], {}, 2))


def test_they_are_opened_with_the_text_that_they_are_of(data, teacher, tmp_path):
    with pytest.raises(UserError, match=r"has no translations\.json"):
        Translations.open(tmp_path / "t", data)
    Translations.begin(tmp_path / "t", data.texts, made_of(data, [teacher], {}, 2))
    assert len(Translations.open(tmp_path / "t", data).shards(data.texts[0])) == 4
    write_split(data.folder, "train", {"de": ["b"] * 7, "en": ["b"] * 7})
    with pytest.raises(UserError, match="translations of another text train"):
        Translations.open(tmp_path / "t", data)
