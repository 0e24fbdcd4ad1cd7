from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from pipeline.results import significance
from sacrebleu.metrics import BLEU

from tests.pipeline import drawn


@pytest.fixture(scope="module")
def references():
    return drawn.references(150)


@pytest.fixture(scope="module")
def translations(references):
    """Two that are equally good, and one that is worse."""
    shares = {"a": 0.3, "b": 0.3, "worse": 0.4}
    return {
        model: drawn.corrupted(references, share, seed)
        for seed, (model, share) in enumerate(shares.items(), start=2)
    }


@pytest.fixture(scope="module")
def found(translations, references):
    return significance.intervals(translations, references)


def bleu(translations, references):
    return BLEU().corpus_score(translations, [references]).score


def test_an_interval_for_each_two_both_ways(found, translations, references):
    assert len(found) == 6
    for (one, other), interval in found.items():
        assert interval.low == pytest.approx(-found[other, one].high)
        difference = bleu(translations[one], references) - bleu(translations[other], references)
        assert interval.low < difference < interval.high


def test_intervals_are_those_of_resampled_corpora(found, translations, references):
    """The same by another way: whole texts drawn again and scored by sacrebleu."""
    generator = np.random.default_rng(7)
    size = len(references)
    differences = []
    for _ in range(150):
        lines = generator.integers(size, size=size)
        resampled = [references[line] for line in lines]
        one, other = (
            bleu([translations[model][line] for line in lines], resampled)
            for model in ("a", "worse")
        )
        differences.append(one - other)
    low, high = np.percentile(differences, [2.5, 97.5])
    interval = found["a", "worse"]
    error = 0.18 * (high - low)  # of percentiles of 150 resamples: 3 standard errors
    assert interval.low == pytest.approx(low, abs=error)
    assert interval.high == pytest.approx(high, abs=error)


def test_what_is_certain_and_what_is_not(found, translations, references):
    assert found["a", "worse"].low > 0
    assert found["a", "b"].low < 0 < found["a", "b"].high
    p_values = significance.p_values(translations, "a", references)
    assert p_values["worse"] < 0.01 < 0.1 < p_values["b"]


def test_p_values_are_those_of_sacrebleus_command(translations, references, tmp_path):
    texts = {"references": references, "a": translations["a"], "worse": translations["worse"]}
    for name, lines in texts.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", "references", "-i", "a", "worse", "-m", "bleu"]
    command += ["--paired-ar", "--paired-ar-n", str(significance.TRIALS), "-f", "json"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    (*_, printed) = (system["BLEU"]["p_value"] for system in json.loads(result.stdout))
    found = significance.p_values(translations, "a", references)["worse"]
    assert printed == pytest.approx(found, abs=1e-4)


def test_the_same_seed_the_same_numbers(found, translations, references):
    assert significance.intervals(translations, references) == found
    once, again = (significance.p_values(translations, "a", references) for _ in range(2))
    assert once == again


def test_the_same_translations_do_not_differ(translations, references):
    twice = {"a": translations["a"], "again": list(translations["a"])}
    found = significance.intervals(twice, references)
    assert found["a", "again"] == significance.Interval(0, 0)
    assert significance.p_values(twice, "a", references) == {"again": 1}


def test_empty_translations_have_an_interval(translations, references):
    found = significance.intervals(
        {"a": translations["a"], "nothing": [""] * len(references)}, references
    )
    assert found["a", "nothing"].low > 0


def test_one_sentence_says_nothing():
    found = significance.intervals({"a": ["a b c d e"], "b": ["x"]}, ["a b c d e"])
    assert found["a", "b"] == significance.Interval(-100, 100)


def test_one_model_has_nothing_to_differ_from(translations, references):
    alone = {"a": translations["a"]}
    assert significance.intervals(alone, references) == {}
    assert significance.p_values(alone, "a", references) == {}
