"""Which point to take: the tidy table, what dominates what, the cheapest points, the warning."""

from __future__ import annotations

import pytest
from pipeline.results import operating_points, point_tables, tidy
from pipeline.results.tidy import SPEED

NAMES = {"teacher": "teacher", "kd": "KD", "control": "control"}
TEACHER = {6: (40.9, 220.0), 1: (38.6, 800.0)}
SETTINGS = {"settings": {"one_thread": {"threads": 1}, "all_threads": {"threads": 8}}}


def point(model, beam, bleu, rate, **more):
    """A point as the stage `speed` finds it."""
    rates = {"sentences_per_second": rate, "words_per_second": 10 * rate}
    rates |= {"p50_ms": 500 / rate, "p95_ms": 900 / rate}
    scores = {"test": {"bleu": bleu, "chrf": bleu + 20, "length_ratio": 0.98}}
    settings = {"one_thread": rates, "all_threads": rates}
    return {"model": model, "beam": beam, "lenpen": 1.2, "scores": scores, **settings, **more}


def rows(**models):
    """The rows of models with BLEU and speed by beam."""
    points = [
        point(m, beam, *at) for m, of_model in models.items() for beam, at in of_model.items()
    ]
    return operating_points.rows(tidy.over_seeds(tidy.of_points(points)))


def warning(found):
    return operating_points.warning(found, {"teacher"}, NAMES)


def test_the_tidy_table_has_an_observation_a_row():
    found = tidy.of_points([point("kd", 6, 30.0, 100.0, gpu={"error": "no GPU here"})])
    assert list(found) == ["model", "size", "seed", "test", "beam", "lenpen", "metric", "value"]
    values = dict(zip(found.metric, found.value, strict=True))
    assert values["bleu"] == 30 and values[SPEED] == 100 and values["all_threads.p95_ms"] == 9
    assert len(found) == 3 + 4 + 4 and set(found.beam) == {6} and set(found.lenpen) == {1.2}


def test_seeds_are_averaged_and_sizes_are_not():
    keys = [("small", 1, 30.0), ("small", 2, 32.0), ("large", 1, 36.0)]
    table = tidy.table(
        row
        for size, seed, bleu in keys
        for row in tidy.of_point(point("kd", 6, bleu, 100.0), model="kd", size=size, seed=seed)
    )
    found = tidy.over_seeds(table)
    assert found[["size", "bleu", SPEED]].values.tolist() == [
        ["small", 31.0, 100.0],
        ["large", 36.0, 100.0],
    ]


def test_a_row_knows_what_dominates_it_and_how_fast_it_is():
    found = rows(teacher=TEACHER, kd={6: (28.0, 780.0), 1: (27.0, 2400.0)})
    assert [row["dominated_by"] for row in found] == [None, None, 1, None]
    assert [row["times_teacher"] for row in found] == pytest.approx([1, 3.64, 3.55, 10.9], abs=0.01)
    head, greedy, student, _ = point_tables.points(found, NAMES)
    assert head["dominated by"] == greedy["dominated by"] == "–"
    assert student == {
        **{"model": "KD", "beam": "6", "BLEU": "28.0", "chrF": "48.0", "sentences/s": "780"},
        **{"÷ teacher": "3.5", "dominated by": "teacher at beam 1"},
    }
    rates = point_tables.rates(found, NAMES, SETTINGS)[2]
    assert rates == {
        **{"model": "KD", "beam": "6", "words/s": "7800", "p50, ms": "0.6", "p95, ms": "1.2"},
        **{"sentences/s on 8 threads": "780", "words/s on 8 threads": "7800"},
        **{"length": "0.980", "length penalty": "1.2"},
    }


def test_equal_points_do_not_dominate_each_other():
    found = rows(teacher={6: (30.0, 100.0)}, kd={6: (30.0, 100.0)})
    assert [row["dominated_by"] for row in found] == [None, None]
    assert warning(found) is None


def test_a_gpu_has_a_table_of_its_own_and_what_failed_has_dashes():
    on_gpu = point("kd", 6, 30.0, 100.0, gpu={"sentences_per_second": 4000.0, "p50_ms": 0.5})
    without = point("control", 6, 29.0, 100.0, gpu={"error": "no libcublas"})
    found = operating_points.rows(tidy.over_seeds(tidy.of_points([on_gpu, without])))
    settings = {"settings": {**SETTINGS["settings"], "gpu": {"threads": 1, "device": "cuda"}}}
    kd, control = point_tables.rates_on_gpu(found, NAMES, settings)
    assert kd["sentences/s on GPU"] == "4000" and kd["p50, ms on GPU"] == "0.5"
    assert set(control.values()) == {"control", "6", "–"}
    assert point_tables.rates_on_gpu(found, NAMES, SETTINGS) == []


def test_the_cheapest_points_are_told_with_how_many_times_faster_they_are():
    teacher = {6: (40.9, 220.0), 4: (40.3, 250.0), 1: (38.6, 800.0)}
    found = rows(teacher=teacher, kd={6: (40.5, 300.0), 1: (39.0, 1000.0)})
    assert operating_points.cheapest(found, NAMES) == (
        "Cheapest points (teacher's best: teacher at beam 6, 40.9 BLEU, 220 sentences/s): "
        "within 1 BLEU: KD at beam 6 (40.5 BLEU, 300 sentences/s), 1.4 times as fast as the "
        "teacher's best point; this is also the teacher's fastest point of at least that quality; "
        "within 2 BLEU: KD at beam 1 (39.0 BLEU, 1000 sentences/s), 4.5 times as fast as the "
        "teacher's best point, 4.0 times as fast as the teacher's own fastest point of at least "
        "that quality (beam 4)."
    )


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ({"teacher": TEACHER}, "within 1 and 2 BLEU: only teacher at beam 6"),
        (
            {"teacher": {6: (40.9, 220.0), 1: (40.0, 800.0)}, "kd": {1: (30.0, 900.0)}},
            "within 1 and 2 BLEU: teacher at beam 1 (40.0 BLEU, 800 sentences/s), 3.6 times as "
            "fast as the teacher's best point; no student is faster at that "
            "quality.",
        ),
        (
            {"teacher": TEACHER, "kd": {1: (41.0, 900.0)}},
            "4.1 times as fast as the teacher's best point; no point of the teacher is as good.",
        ),
    ],
)
def test_the_cheapest_point_where_there_is_nothing_to_compare_with(models, said):
    assert said in operating_points.cheapest(rows(**models), NAMES)


def test_without_a_teacher_there_is_no_line():
    found = rows(kd={1: (41.0, 900.0)})
    assert operating_points.cheapest(found, NAMES) is None and warning(found) is None
    assert found[0]["times_teacher"] is None
    assert operating_points.rows(tidy.over_seeds(tidy.of_points([]))) == []


def test_a_best_student_that_the_greedy_teacher_dominates_is_warned_of():
    found = rows(
        teacher=TEACHER, control={1: (20.0, 2400.0)}, kd={6: (28.0, 780.0), 1: (27.0, 2400.0)}
    )
    assert warning(found).text == (
        "Do not use the best student with this beam: KD at beam 6 has 28.0 BLEU, 780 "
        "sentences/s, and teacher at beam 1 has 38.6 BLEU, 800 sentences/s: at least as good and "
        "at least as fast. Decode the student with beam 1: 27.0 BLEU, 2400 sentences/s."
    )
    assert operating_points.recommended(found, {"teacher"})["beam"] == 1
    useless = rows(teacher=TEACHER, kd={6: (28.0, 200.0), 1: (27.0, 700.0)})
    assert "Take the teacher with that beam, or train a larger" in warning(useless).text
    assert operating_points.recommended(useless, {"teacher"})["beam"] == 6


def test_a_best_student_on_the_frontier_is_not_warned_of():
    assert warning(rows(teacher=TEACHER, kd={6: (39.0, 500.0), 1: (38.0, 2400.0)})) is None
    # Another teacher is no student.
    found = rows(teacher=TEACHER, kd={6: (28.0, 780.0)})
    assert operating_points.warning(found, {"teacher", "kd"}, NAMES) is None
