"""Translations that were made elsewhere, and monolingual text, from files beside a corpus."""

from __future__ import annotations

import gzip
from dataclasses import replace

import pytest
from pipeline import stages
from pipeline.engine import files
from pipeline.engine.devices import WHOLE
from pipeline.engine.errors import PipelineError
from pipeline.models import external_translations
from pipeline.models.translating import Translation

from ka_fairseq.distill.shards import Candidate
from tests.databins import read_split
from tests.pipeline.models.conftest import ENGLISH, GERMAN

# Raw, with a line that `prepare` leaves out, and white space that it takes away.
RAW = ["Wählen  Sie einen Bereich aus.", "Ohne Übersetzung.", *GERMAN[1:]]
LINES = ["Choose an area.", "Without one.", "Click Close.", "", "Type a name."]


@pytest.fixture
def own(prepared, tmp_path):
    """A user's own corpus."""
    data = tmp_path / "corpus"
    files.write_lines(data / "train.de", RAW)
    return replace(prepared, files=replace(prepared.files, data_dir=data))


def candidates(pair):
    given = external_translations.find(pair)
    return list(external_translations.translations(pair, given, pair.files.text_dir / "train.de"))


def texts(pair):
    return [[candidate.text for candidate in found] for found in candidates(pair)]


def test_lines_go_with_those_of_the_users_own_source(own):
    files.write_lines(own.files.data_dir / "translated.en", LINES)
    assert texts(own) == [["Choose an area."], ["Click Close."], [], ["Type a name."]]


def test_n_best_come_as_a_table_the_best_first(own):
    rows = ["5\t-2\tType name.", "1\t0.5\tChoose an  area.", "5\t-1\tType a name."]
    with gzip.open(own.files.data_dir / "translated.tsv.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(rows))
    found = candidates(own)
    assert found[0] == [Candidate(0.5, "Choose an area.")]
    assert found[1:3] == [[], []]
    assert [candidate.text for candidate in found[3]] == ["Type a name.", "Type name."]


def test_text_that_is_tokenized_has_its_translations_tokenized(own):
    files.write_lines(own.files.text_dir / "train.de", ["Ohne Übersetzung .", "x"])
    files.write_lines(own.files.data_dir / "translated.en", LINES)
    tokenized = replace(own, text={**own.text, "cleaning": {"tokenizer": "moses"}})
    assert texts(tokenized) == [["Without one ."], []]


def test_a_pair_without_files_of_its_own_has_them_beside_its_settings(prepared, tmp_path):
    pair = replace(prepared, files=replace(prepared.files, config_dir=tmp_path))
    files.write_lines(tmp_path / "translated.en", ENGLISH)
    assert texts(pair) == [[sentence] for sentence in ENGLISH]


@pytest.mark.parametrize(
    ("name", "lines", "says"),
    [
        ("translated.en", LINES[:-1], r"has 4 lines but .*train\.de has 5"),
        ("translated.tsv", ["6\t1\tText"], r"translates line 6, but .*train\.de has 5 lines"),
        ("translated.tsv", ["1\tText"], r"line 1: give the number of the sentence"),
        ("translated.en", ["\0", *LINES[1:]], "UTF-16"),
    ],
)
def test_what_does_not_go_with_the_source_is_an_error_of_one_line(own, name, lines, says):
    files.write_lines(own.files.data_dir / name, lines)
    with pytest.raises(PipelineError, match=says) as error:
        candidates(own)
    assert "\n" not in str(error.value)


def test_two_files_are_one_too_many(own):
    for name in ("translated.en", "translated.tsv"):
        files.write_lines(own.files.data_dir / name, LINES)
    with pytest.raises(PipelineError, match=r"translated\.tsv are there: keep one"):
        external_translations.find(own)


def test_they_take_the_place_of_a_teacher(own, capsys):
    translation = Translation("teacher")
    assert translation.stage(own).needs == ("binarize", "teacher")
    files.write_lines(own.files.data_dir / "translated.en", LINES)
    files.write_lines(own.files.data_dir / "mono.de", ["Nur Deutsch.", "", "Noch mehr."])
    nobody = replace(own, models=tuple(m for m in own.models if m.name == "seq_kd"))
    stages.table(nobody)["translate.teacher"].execute(nobody.files)
    found = translation.translations(own)
    assert [text.name for text in found.texts] == ["train"]
    assert len(found.shards(found.texts[0])) == 1
    printed = capsys.readouterr().out
    assert "no teacher translates" in printed and "mono.de has no translation" in printed
    assert "train: translated" in printed
    before = translation.inputs(own)
    files.write_lines(own.files.data_dir / "translated.en", [*LINES[:-1], "Another."])
    changed = translation.inputs(own)
    assert {key for key in before if before[key] != changed[key]} == {"translated.en"}
    with pytest.raises(PipelineError, match="nothing is translated: leave --shard out"):
        translation.run_share(own, WHOLE, (1, 2))
    with pytest.raises(PipelineError, match="no samples are drawn: train on mbr instead"):
        replace(translation, sampled=True).stage(own)


def test_without_a_teacher_or_a_translation_it_says_what_to_do(prepared):
    nobody = replace(prepared, models=tuple(m for m in prepared.models if m.name == "seq_kd"))
    with pytest.raises(PipelineError, match=r"no model teacher .* translated\.en"):
        stages.table(nobody)


def test_monolingual_text_is_trained_on_with_its_translations(own):
    files.write_lines(own.files.data_dir / "translated.en", LINES)
    files.write_lines(own.files.data_dir / "mono.de", ["Nur  Deutsch ist hier.", "", "Noch mehr."])
    files.write_lines(
        own.files.data_dir / "mono.translated.tsv", ["1\t0\tOnly German.", "3\t0\tMore."]
    )
    table = stages.table(own)
    for name in ("translate.teacher", "text.closest"):
        table[name].execute(own.files)
    folder = own.files.run_dir / "texts" / "closest"
    source, target = (words(read_split(folder, "train", language)) for language in ("de", "en"))
    assert source == [GERMAN[0], GERMAN[1], GERMAN[3], "Nur Deutsch ist hier.", "Noch mehr."]
    assert target == ["Choose an area.", "Click Close.", "Type a name.", "Only German.", "More."]


def words(sentences):
    return [sentence.replace(" ", "").replace("▁", " ").strip() for sentence in sentences]
