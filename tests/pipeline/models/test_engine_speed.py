"""Engines that take as long as the test says, compared."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from pipeline.engine import commands, files
from pipeline.engine.devices import WHOLE
from pipeline.engine.errors import PipelineError
from pipeline.models import engine_speed

# Engine → seconds (of CPU, and by the clock) to start, and for each of four sentences.
SECONDS = {
    ("ctranslate2", "float32"): ((2.0, 1.0), (0.5, 0.25)),
    ("ctranslate2", "int8"): ((2.0, 1.0), (0.0, 0.0)),
    ("fairseq", "float32"): ((4.0, 4.0), (2.0, 2.0)),
}


@pytest.fixture
def clock(monkeypatch):
    """Only the engines let it go on."""
    clock = SimpleNamespace(cpu=0.0, wall=0.0)
    monkeypatch.setattr(
        engine_speed.os,
        "times",
        lambda: SimpleNamespace(children_user=clock.cpu, children_system=0.0, elapsed=clock.wall),
    )
    return clock


@pytest.fixture
def timed(prepared, clock, monkeypatch):
    """The pair with a teacher; int8 has another translation for one sentence in four."""

    def run(command, log, on_line, append, folder, slot):
        after = dict(itertools.pairwise(command))
        engine = after["--engine"], after["--quantization"]
        start, each = SECONDS[engine]
        data = Path(command[command.index("--path") - 1])
        count = len(files.read_lines(data / "train.de-en.de"))
        clock.cpu += start[0] + count * each[0]
        clock.wall += start[1] + count * each[1]
        rows = [f"{n}\t-1\tSentence {n}" for n in range(1, count + 1)]
        if engine[1] == "int8":
            rows[0] = "1\t-1\tAnother"
        files.write_lines(Path(after["--translations"]) / "train" / "00000.tsv", rows)

    monkeypatch.setattr(commands, "run", run)
    files.write_lines(prepared.files.model("teacher"), ["weights"])
    return prepared


def test_a_rate_is_of_what_is_translated_after_the_start(timed):
    found = engine_speed.compare(timed, WHOLE, "teacher", 4)
    assert found.to_numpy().tolist() == [
        # 3 sentences more in 1.5 s of CPU time; the start has the first one in it.
        ["ctranslate2, float32", 2.0, 4.0, 2.5, "4 of 4"],
        ["ctranslate2, int8", "–", "–", 2.0, "3 of 4"],
        ["fairseq-generate", 0.5, 0.5, 6.0, "4 of 4"],
    ]


def test_more_sentences_than_there_are_is_an_error(timed):
    with pytest.raises(PipelineError, match="--sentences 5: the text has 4; give 2 or more"):
        engine_speed.compare(timed, WHOLE, "teacher", 5)
