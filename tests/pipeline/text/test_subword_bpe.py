"""BPE: subword-nmt's own results, with a bound on memory."""

from __future__ import annotations

import argparse

import pytest
from pipeline.engine.errors import PipelineError
from pipeline.text import segmentation, subword_bpe
from pipeline.text.clean import Recipe, clean
from sacremoses import MosesDetokenizer
from subword_nmt.apply_bpe import BPE, read_vocabulary
from subword_nmt.learn_joint_bpe_and_vocab import learn_joint_bpe_and_vocab

from tests.pipeline.releases import ENGLISH, GERMAN, THAI, THAI_ENGLISH
from tests.support import ROOT

HELP = ROOT / "tests" / "data" / "libreoffice-help"
SETTINGS = {"symbols": 300, "vocabulary_threshold": 5}


def tokenized(folder, sources, targets, **recipe):
    folder.mkdir()
    text = {language: folder / f"text.{language}" for language in ("de", "en")}
    raw = [(s.encode(), t.encode()) for s, t in zip(sources, targets, strict=True)]
    clean(raw, Recipe(("de", "en"), **recipe), tuple(text.values()), title="", processes=1)
    return text


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Real sentences, tokenized."""
    sides = [(HELP / f"train.{x}").read_text("utf-8").splitlines()[:300] for x in ("de", "en")]
    return tokenized(tmp_path_factory.mktemp("text") / "x", *sides, tokenizer="moses")


def test_the_same_as_subword_nmt(text, tmp_path):
    subword_bpe.train(text, tmp_path, SETTINGS)
    theirs = {language: tmp_path / f"theirs.{language}" for language in text}
    arguments = argparse.Namespace(
        input=[path.open(encoding="utf-8") for path in text.values()],
        output=(tmp_path / "theirs").open("w"),
        vocab=[path.open("w") for path in theirs.values()],
        symbols=SETTINGS["symbols"],
        separator="@@",
        min_frequency=2,
        verbose=False,
        total_symbols=False,
        num_workers=1,
    )
    learn_joint_bpe_and_vocab(arguments)
    codes = (tmp_path / "theirs").read_text(encoding="utf-8")
    assert (tmp_path / "bpe.codes").read_text(encoding="utf-8") == codes
    for language, path in text.items():
        with theirs[language].open(encoding="utf-8") as file:
            vocabulary = read_vocabulary(file, SETTINGS["vocabulary_threshold"])
        with (tmp_path / "theirs").open(encoding="utf-8") as file:
            bpe = BPE(file, vocab=vocabulary)
        expected = [bpe.process_line(line) for line in path.open(encoding="utf-8")]
        out = tmp_path / f"out.{language}"
        method = {"method": "subword-nmt", **SETTINGS}
        segmentation.encode(tmp_path, language, method, path, out)
        assert out.read_text(encoding="utf-8") == "".join(expected)


def test_a_bound_on_words_takes_the_rare_ones(text, monkeypatch):
    whole = subword_bpe.count_words(text["de"])
    monkeypatch.setattr(subword_bpe, "MOST_WORDS", len(whole) // 8)
    bounded = subword_bpe.count_words(text["de"])
    assert 0 < len(bounded) < len(whole)
    assert whole.most_common(20) == bounded.most_common(20)


def test_the_memory_of_words_is_bounded(text, tmp_path, monkeypatch):
    subword_bpe.train(text, tmp_path, SETTINGS)
    segmenter = subword_bpe.Segmenter(tmp_path, "de", SETTINGS)
    before = segmenter("Die Tabellenfunktionen .")
    monkeypatch.setattr(subword_bpe, "CACHED_WORDS", 1)
    assert segmenter("Die Tabellenfunktionen .") == before
    assert len(segmenter.bpe.cache) <= 3


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"method": "wordpiece"}, "segmentation.method wordpiece .*choose from sentencepiece, sub"),
        ({"method": "subword-nmt", "vocab_size": 9}, "subword-nmt has no vocab_size"),
    ],
)
def test_an_unknown_setting_is_refused(text, tmp_path, settings, says):
    with pytest.raises(PipelineError, match=says):
        segmentation.train(text, tmp_path, settings)


# What normalization does to a sentence and detokenization cannot know: quotes become straight ones,
# a dash between blanks a hyphen.
STRAIGHT = str.maketrans({"“": '"', "”": '"', "„": '"', "–": "-"})
# Nor does German's blank before a per cent sign come back, and an apostrophe gets a blank.
DOCUMENTED = {
    "Die CO2-Emissionen sanken um 3,5 % (im Vergleich zu 1990).": (
        "Die CO2-Emissionen sanken um 3,5% (im Vergleich zu 1990)."
    ),
    "Haben Sie's schon gehört? Nein!": "Haben Sie 's schon gehört? Nein!",
}


def test_german_and_english_come_back(tmp_path):
    text = tokenized(tmp_path / "x", GERMAN, ENGLISH, tokenizer="moses")
    settings = {"method": "subword-nmt", "symbols": 100, "vocabulary_threshold": 1}
    segmentation.train(text, tmp_path, settings)
    for language, sentences in (("de", GERMAN), ("en", ENGLISH)):
        segmentation.encode(tmp_path, language, settings, text[language], tmp_path / "out")
        segmented = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
        assert sum("@@ " in line for line in segmented) >= 5
        detokenizer = MosesDetokenizer(language)
        words = [line.replace("@@ ", "").split() for line in segmented]
        back = [detokenizer.detokenize(some) for some in words]
        expected = [s.translate(STRAIGHT) for s in sentences]
        assert back == [DOCUMENTED.get(sentence, sentence) for sentence in expected]


def test_thai_and_english_come_back(tmp_path):
    text = tokenized(tmp_path / "x", THAI, THAI_ENGLISH, unicode_form="NFC")
    settings = {
        "model_type": "bpe",
        "vocab_size": 130,
        "character_coverage": 1.0,
        "normalization_rule_name": "identity",
    }
    segmentation.train(text, tmp_path, settings)
    for language, sentences in (("de", THAI), ("en", THAI_ENGLISH)):
        segmentation.encode(tmp_path, language, settings, text[language], tmp_path / "out")
        segmented = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
        back = [line.replace(" ", "").replace("▁", " ").strip() for line in segmented]
        assert back == sentences
