from __future__ import annotations

import gzip

import pytest
from pipeline import corpus
from pipeline.errors import PipelineError

LANGUAGES = ("de", "en")


def write_corpus(folder, **changes):
    """A whole corpus of two pairs a split; a change of None leaves its file out."""
    folder.mkdir(exist_ok=True)
    for split in corpus.SPLITS:
        for language in LANGUAGES:
            content = changes.get(f"{split}_{language}", b"eins zwei\ndrei vier\n")
            if content is not None:
                (folder / f"{split}.{language}").write_bytes(content)
    return folder


def test_reads_plain_and_gzipped_files(tmp_path):
    folder = write_corpus(tmp_path / "Körper mit Raum", train_de=None)
    (folder / "train.de.gz").write_bytes(gzip.compress("größer\nals".encode()))
    splits = corpus.read(folder, LANGUAGES)
    assert splits["train"] == [("größer", "eins zwei"), ("als", "drei vier")]
    assert splits["test"] == [("eins zwei", "eins zwei"), ("drei vier", "drei vier")]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"valid_en": b"one\n"}, "valid.de has 2 lines but valid.en has 1"),
        ({"test_de": b""}, "test.de is empty"),
        ({"test_de": b"\n \n"}, "test.de is empty"),
        ({"valid_de": None}, "valid.de (or valid.de.gz) is missing"),
        ({"train_en": b"good\nbad \xff\n"}, "train.en, line 2: no valid UTF-8"),
        ({"train_de": b"eins\n\n", "train_en": b"\ntwo\n"}, "no line has text on both sides"),
    ],
)
def test_says_what_is_wrong(tmp_path, changes, says):
    folder = write_corpus(tmp_path, **changes)
    with pytest.raises(PipelineError) as error:
        corpus.read(folder, LANGUAGES)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"text " * 99)[:-12]])
def test_broken_gzip(tmp_path, content):
    folder = write_corpus(tmp_path, test_en=None)
    (folder / "test.en.gz").write_bytes(content)
    with pytest.raises(PipelineError, match=r"test\.en\.gz is no whole gzip file"):
        corpus.read(folder, LANGUAGES)


def test_missing_folder(tmp_path):
    with pytest.raises(PipelineError, match="nowhere is no folder"):
        corpus.read(tmp_path / "nowhere", LANGUAGES)


def test_odd_line_ends_and_spaces_stay_inside_a_sentence(tmp_path):
    path = tmp_path / "train.de"
    path.write_bytes("\ufeffa\u2028b\u0085c\r\n  d\t e\xa0f \n".encode())
    assert corpus.read_sentences(path) == ["a b c", "d e f"]


def test_empty_sides_are_dropped_in_train_alone(tmp_path):
    folder = write_corpus(tmp_path, train_de=b"eins\n\n", test_de=b"eins\n\n")
    splits = corpus.read(folder, LANGUAGES)
    assert splits["train"] == [("eins", "eins zwei")]
    assert splits["test"] == [("eins", "eins zwei"), ("", "drei vier")]
