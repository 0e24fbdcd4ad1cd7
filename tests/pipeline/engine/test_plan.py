"""Which stages a run has."""

from __future__ import annotations

from pipeline.engine.plan import plan
from pipeline.engine.stage import Stage

NEEDS = {
    "prepare": (),
    "teacher": ("prepare",),
    "cache": ("prepare", "teacher"),
    "learner": ("prepare",),
    "ka": ("learner", "teacher", "cache"),
    "evaluate": ("ka",),
}
# The order of `after` adds no stage.
STAGES = {name: Stage(name, dict, dict, needs, after=("speed",)) for name, needs in NEEDS.items()}


def planned(*targets, done=()):
    return [stage.name for stage in plan(STAGES, targets, lambda name: name in done)]


def test_what_is_needed_comes_with_the_targets_in_the_order_of_the_table():
    assert planned("evaluate") == list(NEEDS)
    assert planned("learner", "cache") == ["prepare", "teacher", "cache", "learner"]
    assert planned() == []


def test_what_is_done_is_left_out_with_all_that_it_needs():
    assert planned("ka", done=["cache", "learner"]) == ["prepare", "teacher", "ka"]
    assert planned("evaluate", done=["ka"]) == ["evaluate"]


def test_a_target_is_planned_even_if_it_is_done():
    assert planned("learner", "evaluate", done=NEEDS) == ["learner", "evaluate"]
