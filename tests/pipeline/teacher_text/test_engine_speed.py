"""Engines that take as long as the test says, compared."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from pipeline import files
from pipeline.errors import PipelineError
from pipeline.teacher_text import engine_speed, engines, shards
from pipeline.teacher_text.shards import Candidate

# Engine → seconds (of CPU, and by the clock) to start, and for each of four sentences.
SECONDS = {
    ("ctranslate2", "float32"): ((2.0, 1.0), (0.5, 0.25)),
    ("ctranslate2", "int8"): ((2.0, 1.0), (0.0, 0.0)),
    ("fairseq-generate", "float32"): ((4.0, 4.0), (2.0, 2.0)),
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

    def choose(pair, models, converted, recipe, *, sampled):
        def translate(pair, work, log, scratch, report):
            start, each = SECONDS[recipe.engine, recipe.quantization]
            ((_, (shard,)),) = work
            clock.cpu += start[0] + shard.last * each[0]
            clock.wall += start[1] + shard.last * each[1]
            found = {n: [Candidate(-1.0, f"Sentence {n}")] for n in range(shard.last)}
            if recipe.quantization == "int8":
                found[0] = [Candidate(-1.0, "Another")]
            shards.write(shard, found)

        return SimpleNamespace(translate=translate)

    monkeypatch.setattr(engines, "choose", choose)
    files.write_lines(prepared.model("teacher"), ["weights"])
    return prepared


def test_a_rate_is_of_what_is_translated_after_the_start(timed):
    found = engine_speed.compare(timed, "teacher", 4)
    assert found.to_numpy().tolist() == [
        # 3 sentences more in 1.5 s of CPU time; the start has the first one in it.
        ["ctranslate2, float32", 2.0, 4.0, 2.5, "4 of 4"],
        ["ctranslate2, int8", "–", "–", 2.0, "3 of 4"],
        ["fairseq-generate", 0.5, 0.5, 6.0, "4 of 4"],
    ]


def test_more_sentences_than_there_are_is_an_error(timed):
    with pytest.raises(PipelineError, match="--sentences 5: the text has 4; give 2 or more"):
        engine_speed.compare(timed, "teacher", 5)
