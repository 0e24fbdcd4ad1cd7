"""From raw lines to training text."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline.engine import parallel
from pipeline.engine.errors import PipelineError
from pipeline.text import clean, markup
from pipeline.text.moses import Moses
from sacremoses import MosesPunctNormalizer, MosesTokenizer

from tests.pipeline.releases import ENGLISH, GERMAN
from tests.support import ROOT

LANGUAGES = ("de", "en")


def cleaned(tmp_path, pairs, **recipe):
    outputs = (tmp_path / "out.de", tmp_path / "out.en")
    raw = [(source.encode(), target.encode()) for source, target in pairs]
    recipe = clean.Recipe(LANGUAGES, **recipe)
    counts = clean.clean(raw, recipe, outputs, title="", processes=1)
    sides = [path.read_text(encoding="utf-8").split("\n")[:-1] for path in outputs]
    return list(zip(*sides, strict=True)), counts


ABBREVIATIONS = r"\A((z\. ?B|e\.g|Nr|No|1|[A-zß]|ab)\.[ ,]?([a-z]|[A-Z]|9)? ){1,4}\Z"
SPECIAL = "„“”–—´‘‚’…«»\u00a0()%:;,.!?`'\"0 ºcmn \r"


@pytest.mark.parametrize("language", LANGUAGES)
@given(text=st.text(st.sampled_from(SPECIAL + "aBß1")) | st.from_regex(ABBREVIATIONS))
def test_tokens_are_sacremoses_own(language, text):
    """The short cuts change nothing."""
    normalized = MosesPunctNormalizer(language).normalize(text)
    tokenizer = MosesTokenizer(language)
    expected = tokenizer.tokenize(normalized, aggressive_dash_splits=True, return_str=True)
    assert Moses(language).tokenize(text) == expected


def test_what_is_dropped_is_counted(tmp_path):
    pairs = [
        ("Guten Tag.", "Good day."),
        ("Guten  Tag.", "Good day. "),
        ("", "Nothing."),
        ("Ja", "Yes yes yes yes"),
        ("eins zwei drei vier fünf sechs", "one two three four five six"),
    ]
    kept, counts = cleaned(
        tmp_path, pairs, tokenizer="moses", max_tokens=5, max_ratio=1.5, unique=True
    )
    assert kept == [("Guten Tag .", "Good day .")]
    assert (counts.read, counts.kept) == (5, 1)
    assert counts.dropped == {
        "duplicate": 1,
        "empty": 1,
        "ratio of lengths": 1,
        "too long": 1,
    }


def test_unfiltered_keeps_every_line(tmp_path):
    recipe = clean.Recipe(LANGUAGES, max_tokens=1, unique=True).unfiltered()
    assert (recipe.filtered, recipe.unique) == (False, False)
    kept, _ = cleaned(tmp_path, [("a b", ""), ("a b", "")], filtered=False, max_tokens=1)
    assert kept == [("a b", ""), ("a b", "")]


def test_text_is_given_its_unicode_form(tmp_path):
    kept, _ = cleaned(tmp_path, [("A\u0308", "e\u0301")], unicode_form="NFC")
    assert kept == [("\u00c4", "\u00e9")]


@pytest.mark.parametrize("broken", [b"\xff", b"a\x00b"])
def test_broken_utf8_is_dropped_or_an_error(tmp_path, broken):
    outputs = (tmp_path / "out.de", tmp_path / "out.en")
    pairs = [(b"gut", b"good"), (broken, b"bad")]
    counts = clean.clean(pairs, clean.Recipe(LANGUAGES), outputs, title="", processes=1)
    assert counts.dropped == {"broken UTF-8": 1}
    strict = clean.Recipe(LANGUAGES).unfiltered()
    with pytest.raises(PipelineError, match="line 2: not valid UTF-8"):
        clean.clean(pairs, strict, outputs, title="", processes=1)


@pytest.mark.parametrize(
    ("section", "says"),
    [({"max_words": 3}, "max_words"), ({"tokenizer": "spacy"}, "spacy: choose from moses")],
)
def test_an_unknown_setting_is_refused(section, says):
    with pytest.raises(PipelineError, match=says):
        clean.Recipe.load(LANGUAGES, section)


@given(st.lists(st.lists(st.integers(0, 50), max_size=20), max_size=6))
def test_seen_hashes_are_a_set(batches):
    seen, known = clean.SeenHashes(), set()
    for batch in batches:
        expected = []
        for number in batch:
            expected.append(number not in known)
            known.add(number)
        assert seen.first_time(np.array(batch, np.uint64)).tolist() == expected


@pytest.mark.parametrize(("source", "target", "side"), [(2, 3, "source"), (3, 2, "target")])
def test_one_side_with_a_line_fewer(source, target, side):
    lines = [b"a", b"b", b"c"]
    pairs = clean.read_parallel(lines[:source], lines[:target], "europarl")
    with pytest.raises(PipelineError, match=f"europarl: the {side} side ends after 2 lines"):
        list(pairs)


def test_lines_are_stripped(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\nthree \xe2\x80\xa8 still\n\nlast")
    with path.open("rb") as file:
        assert list(clean.stripped(file)) == [
            b"one",
            b"two",
            b"three \xe2\x80\xa8 still",
            b"",
            b"last",
        ]


def double(number):
    return 2 * number


def test_the_order_stays_and_little_is_read_ahead():
    read = []

    def numbers():
        for number in range(1000):
            read.append(number)
            yield number

    results = parallel.ordered_map(double, numbers(), processes=2)
    assert list(itertools.islice(results, 3)) == [0, 2, 4]
    assert len(read) < 12
    assert list(results) == list(range(6, 2000, 2))


@pytest.mark.parametrize("fresh", [False, True])
def test_a_fresh_process_is_no_copy_of_this_one(monkeypatch, fresh):
    monkeypatch.setitem(os.environ, "HERE_ALONE", "")  # inherited by both
    monkeypatch.setattr(os, "environ", {})  # of a copy alone
    results = parallel.ordered_map(os.getenv, ["HERE_ALONE"], processes=1, fresh=fresh)
    assert list(results) == ([""] if fresh else [None])


def test_a_killed_worker_is_one_line():
    with pytest.raises(PipelineError, match=r"killed \(too little memory\?\)"):
        list(parallel.ordered_map(os._exit, [1], processes=1))


def test_a_killed_pipeline_leaves_no_process_behind(tmp_path):
    """They would keep the lock of the run folder."""
    code = """
import os, signal, sys, time
from pipeline.engine import parallel

def work(path):
    open(path + str(os.getpid()), "w").close()
    time.sleep(60)

if __name__ == "__main__":
    list(parallel.ordered_map(work, [sys.argv[1]] * 2, processes=2))
"""
    (tmp_path / "work.py").write_text(code)
    (tmp_path / "pids").mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "work.py"), f"{tmp_path / 'pids'}/"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
    )
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "pids").iterdir())) < 2:
        assert parent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    pids = [int(path.name) for path in (tmp_path / "pids").iterdir()]
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_segments_are_read(tmp_path):
    path = tmp_path / "set.sgm"
    path.write_bytes(
        b'\xef\xbb\xbf<refset setid="x">\r\n<DOC docid="1">\r\n<title>no</title><url>http://x</url>'
        b'<hl>\r\n<seg id="1"> AT&amp;T &lt;b&gt; R&D \xc3\xa4 &#228; </seg>\r\n</hl>\r\n'
        b'<SEG id="2"></SEG>\r\n<seg id="3">two\r\nlines, 3 < 4</seg>\r\n</DOC>\r\n</refset>'
    )
    assert list(markup.segments(path)) == [
        ("1", "AT&T <b> R&D ä ä"),
        ("2", ""),
        ("3", "two lines, 3 < 4"),
    ]


@pytest.mark.parametrize(
    ("content", "says"), [(b'<seg id="1">half', "cut off"), (b"<seg>\xff</seg>", "not valid UTF-8")]
)
def test_segments_of_a_damaged_file(tmp_path, content, says):
    path = tmp_path / "set.xml"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=rf"set\.xml .*{says}"):
        list(markup.segments(path))


def test_tagged_lines_are_left_out():
    lines = [
        "<url>http://www.ted.com</url>",
        "<title>Ein Titel</title>",
        " <description>About &amp; about</description>",
        "Tom &amp; Ann &lt;3",
        "<translator href='x'>Ann</translator>",
        "",
        "<Applause> went on",
    ]
    found = list(markup.tagged_lines(line.encode() for line in lines))
    assert found == [b"Tom & Ann <3", b"", b"<Applause> went on"]


def test_real_sentences_come_through(tmp_path):
    pairs = list(zip(GERMAN, ENGLISH, strict=True))
    kept, counts = cleaned(tmp_path, pairs, tokenizer="moses", max_ratio=1.5)
    assert counts.kept == len(pairs)
    assert kept[3][0] == "Die CO2 @-@ Emissionen sanken um 3,5 % ( im Vergleich zu 1990 ) ."
