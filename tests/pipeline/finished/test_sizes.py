"""Two sizes and two beams through the real command line, on a slice of real text."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
from sacrebleu.metrics import BLEU

from tests.pipeline.project import BEAMS

pytestmark = [pytest.mark.slow, pytest.mark.extended]

SIZES = ["own", "small"]
METHODS = ["control", "ka"]


@pytest.fixture(scope="module")
def run(finished):
    """The run folder after a comparison at two sizes; the pair's own models were there before."""
    compared = finished.copied("runs of two sizes")
    words = compared.command("--methods", *METHODS, "--students", *SIZES, "--seeds", 1)
    printed = compared.script(*words[1:], script="compare.sh")
    assert "\nka: done already\n" in f"\n{printed}"
    return compared.run_dir


def test_each_method_is_a_point_at_each_size_and_beam(run):
    content = json.loads((run / "compare" / "compare.json").read_text("utf-8"))
    points = content["operating_points"]["test"]["rows"]
    students = [(name, size) for size in ("", "small") for name in ("learner", *METHODS)]
    expected = [(*place, beam) for place in [("teacher", ""), *students] for beam in BEAMS]
    assert [(row["model"], row["size"], row["beam"]) for row in points] == expected
    assert all(row["one_thread.sentences_per_second"] > 0 for row in points)
    table = pd.read_csv(run / "compare" / "points.csv")
    assert set(table["size"].dropna()) == {"small"} and len(set(table.metric)) > 8
    assert (run / "compare" / "quality_over_speed.png").stat().st_size > 10_000
    scores = pd.read_csv(run / "compare" / "scores.csv")
    assert len(scores) == 2 * (2 + len(METHODS))  # teacher and learner beside them


def test_a_points_bleu_is_that_of_its_translations(run):
    content = json.loads((run / "compare" / "compare.json").read_text("utf-8"))
    reference = (run / "text" / "test.en").read_text("utf-8").split("\n")[:-1]
    for row in content["operating_points"]["test"]["rows"]:
        training = f"compare/small/1/{row['model']}" if row["size"] else row["model"]
        beam = "" if row["beam"] == BEAMS[0] else ".beam1"
        path = run / "evaluate" / f"export.{training}{beam}.en"
        translations = path.read_text("utf-8").split("\n")[:-1]
        assert row["bleu"] == pytest.approx(BLEU().corpus_score(translations, [reference]).score)
        assert 0.6 <= row["lenpen"] <= 1.8


def test_the_other_size_is_the_presets(run):
    def layers(name):
        weights = torch.load(run / name / "model.pt", weights_only=True)["model"]
        return len({key.split(".")[2] for key in weights if key.startswith("encoder.layers")})

    assert [layers("ka"), layers("compare/small/1/ka")] == [1, 2]


def test_the_page_has_the_figure_and_what_ka_is_worth(run):
    page = (run / "report.html").read_text("utf-8")
    assert "BLEU over sentences a second of the comparison" in page
    text = (run / "compare" / "compare.md").read_text("utf-8")
    assert "Worth of KA (backward KL) against control (NLL): at equal speed " in text
