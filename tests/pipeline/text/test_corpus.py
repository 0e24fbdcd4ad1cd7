from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline.engine.errors import PipelineError
from pipeline.text import corpus

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
        ({"valid_de": None}, "valid.de (or valid.de.gz) is missing; the folder has valid.en: "),
        ({"train_en": b"good\nbad \xff\n"}, "train.en, line 2: not valid UTF-8"),
        ({"test_de": "eins\nzwei\n".encode("utf-16")}, "test.de, line 1: not valid UTF-8"),
        ({"test_de": "eins\nzwei\n".encode("utf-16-be")}, "test.de, line 1: not valid UTF-8 (NUL"),
        ({"train_de": b"eins\n\n", "train_en": b"\ntwo\n"}, "no line has text on both sides"),
    ],
)
def test_an_error_says_what_is_wrong(tmp_path, changes, says):
    folder = write_corpus(tmp_path, **changes)
    with pytest.raises(PipelineError) as error:
        corpus.read(folder, LANGUAGES)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"text " * 99, mtime=0)[:-12]])
def test_a_broken_gzip_is_an_error(tmp_path, content):
    folder = write_corpus(tmp_path, test_en=None)
    (folder / "test.en.gz").write_bytes(content)
    with pytest.raises(PipelineError, match=r"test\.en\.gz is not a complete gzip file"):
        corpus.read(folder, LANGUAGES)


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(PipelineError, match="nowhere is not a folder"):
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


# -- a fuzz of the reader: what a line must be read as is known from how it was made ---------------

words = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="\ufeff"),
    min_size=1,
    max_size=5,
)
# Everything that Unicode has for white space, but the end of a line.
spaces = st.text("\t\x0b\x0c\r\x1c \x85\xa0\u2028\u2029\u3000", min_size=1, max_size=3)
BROKEN = [b"\xff", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xfe\xff", b"\x00"]
LONG = ("Wort " * 100_000).rstrip()


@st.composite
def good_line(draw):
    """Bytes, and the sentence they stand for."""
    if draw(st.integers(0, 19)) == 0:
        return LONG.encode(), LONG
    sentence = draw(st.lists(words, max_size=4))
    raw = "".join(word + draw(spaces) for word in sentence)
    return (draw(st.sampled_from(["", " ", "\u3000"])) + raw).encode(), " ".join(sentence)


@st.composite
def broken_line(draw):
    """Bytes that are no UTF-8, and None."""
    raw, _ = draw(good_line())
    return raw + draw(st.sampled_from(BROKEN)) + draw(st.sampled_from([b"", b" Ende"])), None


@st.composite
def text_file(draw):
    """A file's bytes, and its sentences; None for a line that is broken."""
    lines = draw(st.lists(good_line(), max_size=6))
    if draw(st.booleans()):
        lines.insert(draw(st.integers(0, len(lines))), draw(broken_line()))
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    content = end.join(raw for raw, _ in lines)
    if lines and (not lines[-1][0] or draw(st.booleans())):  # or the last line is not ended
        content += end
    mark = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    return mark + content, [sentence for _, sentence in lines]


def expected(split, sources, targets):
    """What :func:`corpus.read` must make of two files: pairs, or what its error says."""
    for language, sentences in zip(LANGUAGES, (sources, targets), strict=True):
        if None in sentences:
            return f"{split}.{language}, line {sentences.index(None) + 1}: not valid UTF-8"
        if not any(sentences):
            return f"{split}.{language} is empty"
    if len(sources) != len(targets):
        return f"{split}.de has {len(sources)} lines but {split}.en has {len(targets)}: "
    pairs = list(zip(sources, targets, strict=True))
    if split != "train":
        return pairs
    return [pair for pair in pairs if all(pair)] or "no line has text on both sides"


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(corpus.SPLITS), text_file(), text_file(), st.booleans(), st.booleans())
def test_whatever_is_in_the_files_is_read_right_or_named(split, source, target, same, zipped):
    """500: broken UTF-8, NUL bytes, 100,000 words, CRLF, BOM, empty lines, a longer side."""
    if same:
        target = source
    should = expected(split, source[1], target[1])
    with tempfile.TemporaryDirectory() as name:
        changes = {f"{split}_de": source[0], f"{split}_en": None if zipped else target[0]}
        folder = write_corpus(Path(name), **changes)
        if zipped:
            (folder / f"{split}.en.gz").write_bytes(gzip.compress(target[0], 1))
        if isinstance(should, list):
            assert corpus.read(folder, LANGUAGES)[split] == should
            return
        with pytest.raises(PipelineError) as error:
            corpus.read(folder, LANGUAGES)
        said = str(error.value)
        assert "\n" not in said and str(folder) in said
        assert should in said.replace(".en.gz", ".en")
