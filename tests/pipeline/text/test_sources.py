from __future__ import annotations

import io
import json
import subprocess
import zipfile

import pytest
from pipeline.engine.errors import PipelineError
from pipeline.text import prepare, split
from pipeline.text.sources import homeassistant, libreoffice

PAGE = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>x</title></head><body>
<p id="menu">{menu}</p>
<h1 id="hd_id1">{title}</h1>
<p id="par_id2" class="paragraph">{first} <span class="emph">{bold}</span>.</p>
<p id="par_id3"><img src="x.svg" alt="icon"></p>
<p id="par_id2" class="paragraph">{again}</p>
{more}</body></html>"""
GERMAN = {"menu": "Inhalt", "title": "Zeile löschen", "first": "Löscht\n  die", "bold": "Zeile"}
ENGLISH = {"menu": "Contents", "title": "Delete row", "first": "Deletes the", "bold": "row"}


def page(texts, again, more=""):
    return PAGE.format(**texts, again=again, more=more).encode()


def test_paragraphs_with_a_repeated_id_pair_by_their_order():
    pairs = libreoffice.align_page(page(GERMAN, "Noch einmal"), page(ENGLISH, "Once more"))
    assert pairs == [
        ("Zeile löschen", "Delete row"),
        ("Löscht die Zeile.", "Deletes the row."),
        ("Noch einmal", "Once more"),
    ]


def test_page_with_another_sequence_of_ids_is_left_out():
    longer = page(GERMAN, "Noch einmal", '<p id="par_id9">Neu</p>')
    assert libreoffice.align_page(longer, page(ENGLISH, "Once more")) == []
    assert libreoffice.align_page(b"", page(ENGLISH, "Once more")) == []


def test_pages_of_one_language_alone_are_left_out(tmp_path):
    for language, texts in (("de", GERMAN), ("en", ENGLISH)):
        (tmp_path / language / "sub").mkdir(parents=True)
        (tmp_path / language / "sub" / "both.html").write_bytes(page(texts, "x"))
    (tmp_path / "en" / "alone.html").write_bytes(page(ENGLISH, "x"))
    assert len(list(libreoffice.align_trees(tmp_path / "de", tmp_path / "en"))) == 3


def test_no_pages_is_an_error(tmp_path):
    with pytest.raises(PipelineError, match="no help pages"):
        list(libreoffice.align_trees(tmp_path, tmp_path))


def test_home_assistant_pairs_strings_of_the_same_path_of_keys():
    english = {"config": {"title": "Set up", "gone": "No longer there"}, "error": "Failed"}
    german = {"error": "Fehlgeschlagen", "config": {"title": "Einrichten"}}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        wheel.writestr("homeassistant/components/a/translations/en.json", json.dumps(english))
        wheel.writestr("homeassistant/components/a/translations/de.json", json.dumps(german))
        wheel.writestr("homeassistant/components/b/translations/en.json", json.dumps(english))
        pairs = list(homeassistant.align_wheel(wheel))
    assert pairs == [("Einrichten", "Set up"), ("Fehlgeschlagen", "Failed")]


def test_fallback_is_announced(pair, monkeypatch, capsys):
    def unreachable():
        raise PipelineError("`apt-get download` failed: no network")

    texts = [(f"Der Satz Nummer {n} hier", f"The sentence number {n} here") for n in range(3)]
    texts += [
        (f"Wort {w} steht hier", f"Word {w} stands right here") for w in map(chr, range(97, 123))
    ]
    monkeypatch.setattr(libreoffice, "available", lambda: True)
    monkeypatch.setattr(libreoffice, "read_pairs", unreachable)
    monkeypatch.setattr(homeassistant, "read_pairs", lambda: texts)
    monkeypatch.setitem(pair.text, "held_out_per_mille", {"valid": 200, "test": 200})
    facts = prepare.run(pair)
    output = capsys.readouterr().out
    assert "no network" in output
    assert "expect poorer translations" in output
    assert "Home Assistant" in facts["text"]


def test_download_error_is_one_line(tmp_path, monkeypatch):
    def failing(command, **kwargs):
        return subprocess.CompletedProcess(command, 100, "", "W: a warning\nE: no such package\n\n")

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(PipelineError, match=r"E: no such package$"):
        libreoffice.read_pairs()


def test_clean_keeps_translated_pairs_of_fitting_length_once():
    pairs = [("a b", "c d"), ("a b", "c d"), ("a b", "c"), ("x y", "x y"), ("a b c d", "e f")]
    assert split.clean(pairs, 2, 3) == [("a b", "c d")]


def test_split_keeps_alike_sentences_together_and_off_the_training_set():
    words = ["set", "the", "row", "to", "a", "cell", "of", "page"]
    targets = [" ".join(words[n % 8 :] + words[: n % 3] + [chr(97 + n % 26)]) for n in range(400)]
    pairs = [(f"Satz {n}", target) for n, target in enumerate(targets)]
    pairs += [("anders", target.upper() + " 7!") for target in targets]
    splits = split.split(pairs, {"valid": 150, "test": 150}, 4)
    assert sum(map(len, splits.values())) == len(pairs)
    letters = {
        name: {"".join(filter(str.isalpha, t.lower())) for _, t in found}
        for name, found in splits.items()
    }
    assert all(splits.values())
    assert not letters["train"] & letters["test"]
    assert not letters["train"] & letters["valid"]
    assert not letters["valid"] & letters["test"]
    assert splits == split.split(pairs, {"valid": 150, "test": 150}, 4)
    assert all(len(t.split()) >= 4 for _, t in splits["valid"] + splits["test"])
