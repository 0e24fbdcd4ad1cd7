"""The report's analysis in several processes is the analysis in one."""

from __future__ import annotations

import json

import pytest
from pipeline.__main__ import main
from pipeline.engine import parallel
from pipeline.results import analyse

pytestmark = [pytest.mark.slow, pytest.mark.extended]


def test_parts_made_side_by_side_are_those_made_in_one_process(finished, monkeypatch):
    """With KD beside KA, so that there are places where they differ most."""
    again = finished.copied("runs that are analysed twice")
    again.pipeline("kd", "report", "--jobs", 1)
    page = (again.run_dir / "report.html").read_text(encoding="utf-8")
    assert "Best tokens at one position" in page
    folder = again.run_dir / "analysis"
    before = {path: path.read_bytes() for path in folder.iterdir() if path.suffix != ".svg"}
    assert {"entropy.csv", "novel_tokens.csv", "examples.json"} <= {path.name for path in before}
    assert json.loads(before[folder / "examples.json"])
    (again.run_dir / "state" / "analysis.json").unlink()
    processes = []

    def watched(*arguments, **options):
        processes.append(options["processes"])
        return parallel_map(*arguments, **options)

    parallel_map = parallel.ordered_map
    monkeypatch.setattr(analyse.parallel, "ordered_map", watched)
    monkeypatch.setattr(analyse.parallel, "cores", lambda: 2)
    monkeypatch.setattr(analyse, "FEW", 0)
    assert main(again.command("report")[1:]) == 0
    assert processes == [2]
    assert {path: path.read_bytes() for path in before} == before
