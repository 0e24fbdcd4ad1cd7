"""A finished run with further models: each comes nearer to the teacher, and all are analysed."""

from __future__ import annotations

import json

import pytest
from pipeline.__main__ import main
from pipeline.engine import parallel
from pipeline.results import analyse

from tests.pipeline.nearer import assert_comes_nearer

pytestmark = [pytest.mark.slow, pytest.mark.extended]

MODELS = ("kd", "mixture", "topk")


@pytest.fixture(scope="module")
def others(finished):
    """A run with these models beside the pair's own, and with a new report."""
    others = finished.copied("runs of other criterions")
    others.pipeline(*MODELS, "report", "--jobs", 1)
    return others


@pytest.mark.parametrize("model", MODELS)
def test_a_learner_comes_nearer_by_any_criterion(others, model):
    assert_comes_nearer(others.log(model))


def test_parts_of_the_analysis_made_side_by_side_are_those_made_in_one_process(others, monkeypatch):
    """With KD beside KA, so that there are places where they differ most."""
    page = (others.run_dir / "report.html").read_text(encoding="utf-8")
    assert "Best tokens at one position" in page
    folder = others.run_dir / "analysis"
    before = {path: path.read_bytes() for path in folder.iterdir() if path.suffix != ".svg"}
    assert {"entropy.csv", "novel_tokens.csv", "examples.json"} <= {path.name for path in before}
    assert json.loads(before[folder / "examples.json"])
    (others.run_dir / "state" / "analysis.json").unlink()
    processes = []

    def watched(*arguments, **options):
        processes.append(options["processes"])
        return parallel_map(*arguments, **options)

    parallel_map = parallel.ordered_map
    monkeypatch.setattr(analyse.parallel, "ordered_map", watched)
    monkeypatch.setattr(analyse.parallel, "cores", lambda: 2)
    monkeypatch.setattr(analyse, "FEW", 0)
    assert main(others.command("report")[1:]) == 0
    assert processes == [2]
    assert {path: path.read_bytes() for path in before} == before
