"""The report's analysis in several processes is the analysis in one."""

from __future__ import annotations

import shutil

import pytest
from pipeline import analyse, parallel
from pipeline.__main__ import main

pytestmark = [pytest.mark.slow, pytest.mark.extended]


def test_parts_made_side_by_side_are_those_made_in_one_process(finished, monkeypatch):
    again = finished.copied("runs that are analysed side by side")
    shutil.rmtree(again.run_dir / "analysis")
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
    tables = [path for path in (finished.run_dir / "analysis").iterdir() if path.suffix != ".svg"]
    assert {"entropy.csv", "novel_tokens.csv", "examples.json"} <= {path.name for path in tables}
    for path in tables:
        assert (again.run_dir / "analysis" / path.name).read_bytes() == path.read_bytes(), path
