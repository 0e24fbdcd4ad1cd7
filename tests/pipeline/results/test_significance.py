from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pipeline.results import significance

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


def test_what_is_certain_and_what_is_not(translations, references):
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


def test_the_same_seed_the_same_numbers(translations, references):
    once, again = (significance.p_values(translations, "a", references) for _ in range(2))
    assert once == again


def test_the_same_translations_do_not_differ(translations, references):
    twice = {"a": translations["a"], "again": list(translations["a"])}
    assert significance.p_values(twice, "a", references) == {"again": 1}


def test_one_model_has_nothing_to_differ_from(translations, references):
    alone = {"a": translations["a"]}
    assert significance.p_values(alone, "a", references) == {}
