from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from pipeline.engine import files, state
from pipeline.models import settings, training_log
from pipeline.results import report, tidy

from tests.pipeline import scored
from tests.pipeline.exported import add_speed, add_state
from tests.pipeline.scored import BAD, GOOD, ROWS, log_text
from tests.pipeline.shown import table


@pytest.fixture
def evaluated(pair):
    return filled(pair)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A run that no test changes: its folder, and what ``report.md`` and ``report.json`` hold."""
    pair = filled(settings.load(settings.CONFIGS / "demo", tmp_path_factory.mktemp("runs")))
    text = report.build(pair)
    return pair.files.run_dir, text, files.read_json(pair.files.run_dir / "report.json")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The same with exported models, of which one was refused."""
    pair = filled(settings.load(settings.CONFIGS / "demo", tmp_path_factory.mktemp("runs")))
    add_speed(pair, teacher=20.0, learner=80.0, topk=82.5)
    add_state(pair, "kd", refused="CTranslate2 has no adaptive softmax")
    text = report.build(pair)
    return pair.files.run_dir, text, files.read_json(pair.files.run_dir / "report.json")


def filled(pair):
    scored.prepare(pair, [f"Zeile {n}" for n in range(40)], ROWS)
    add_result(pair, "teacher", ROWS, [10, 50, 90])
    add_result(pair, "learner", GOOD, [5, 30, 60, 60])
    add_result(pair, "kd", GOOD, [61, 62])
    add_result(pair, "topk", BAD, [50, 2])
    return pair


def add_result(pair, model, translations, bleus):
    scored.train(pair, model, bleus)
    scored.add(pair, model, translations)


def test_the_tables_have_every_model(built):
    folder, text, _ = built
    heads = ("gap recovered", "length", "train minutes", "parameters")
    scores, details, trainings, sizes = (table(text, head) for head in heads)
    names = ["teacher", "learner", "KD (forward KL)", "KA, top-8"]
    assert list(scores) == list(details) == list(trainings) == names
    assert trainings["teacher"] == {
        "model": "teacher",
        "BLEU, validation": "90.0",
        "train minutes": "1.5",
    }
    assert sizes["teacher"] == {"model": "teacher", "parameters": "1.23 M", "length penalty": "1"}
    assert list(details["teacher"]) == ["model", "length", "chrF vs KD", "p of BLEU vs KD"]
    assert details["teacher"]["length"] == "1.000"
    teacher, kd = scores["teacher"], scores["KD (forward KL)"]
    assert teacher["BLEU"] == teacher["chrF"] == "100.0"
    assert details["teacher"]["p of BLEU vs KD"] == "<0.001"
    assert kd["vs KD"] == details["KD (forward KL)"]["p of BLEU vs KD"] == "–"
    assert "vs control" not in teacher  # there is none
    # The same translations as the learner's.
    assert kd["gap recovered"] == "0 %" and teacher["gap recovered"] == "–"
    assert "`nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in text
    assert "`nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:" in text
    assert text == (folder / "report.md").read_text(encoding="utf-8")


def test_json_holds_the_numbers(built):
    _, _, content = built
    (test,) = content["tests"]
    rows = {row["model"]: row for row in test["rows"]}
    bleu = {model: row["bleu"]["mean"] for model, row in rows.items()}
    assert bleu["teacher"] == pytest.approx(100)
    assert rows["topk"]["length_ratio"]["mean"] == pytest.approx(3 / 10)
    models = {row["model"]: row for row in content["models"]}
    assert models["learner"]["train_minutes"] == [2] and models["topk"]["valid_bleu"] == [50]
    assert content["baselines"] == ["kd"] and rows["kd"]["differences"] == {}
    same, worse = (rows[model]["differences"]["kd"] for model in ("learner", "topk"))
    assert same["bleu"] == {"mean": 0, "low": 0, "high": 0, "by_seed": [0]}
    assert same["p_values"] == [1] and worse["p_values"][0] < 0.05
    worse = worse["bleu"]
    assert worse["low"] <= worse["mean"] <= worse["high"] < 0
    assert worse["mean"] == pytest.approx(bleu["topk"] - bleu["kd"])
    assert rows["kd"]["gap_recovered"] == {"bleu": 0, "chrf": 0}
    assert rows["topk"]["gap_recovered"]["bleu"] < 0
    assert rows["teacher"]["gap_recovered"] is None
    assert test["leader"]["model"] == "kd" and test["leader"]["best"]


def test_warnings_stand_in_all_three_files(built):
    """The curves of the teacher and of KD rise; the teacher is far above the learner."""
    folder, text, content = built
    (warning,) = content["warnings"]
    assert warning["kind"] == "still rising"
    assert warning["values"]["teacher"] == {"per_epoch": pytest.approx(40), "epochs": 3}
    assert "topk" not in warning["values"]
    assert f"- **Warning.** {warning['text']}" in text
    assert warning["text"] in (folder / "report.html").read_text(encoding="utf-8")


def test_without_faults_there_are_no_warnings(evaluated):
    for model in ("teacher", "learner", "kd", "topk"):
        evaluated.files.log(model).write_text(
            log_text([20, 30, 30.1, 30, 30.2, 30.1]), encoding="utf-8"
        )
    assert "Warning" not in report.build(evaluated)
    assert 'class="warnings"' not in (evaluated.files.run_dir / "report.html").read_text("utf-8")


@pytest.mark.parametrize("missing", ["control", "kd", "teacher", "learner", "topk"])
def test_tables_with_models_missing(evaluated, missing):
    add_result(evaluated, "control", BAD, [50, 50])
    state.forget(evaluated.files.run_dir, f"evaluate.{missing}")
    text = report.build(evaluated)
    scores = table(text, "chrF")
    assert len(scores) == 4 and evaluated.titles[missing] not in scores
    heads = set(next(iter(scores.values())))
    assert ("vs control" in heads) == (missing != "control")
    assert ("vs KD" in heads) == (missing != "kd")
    assert ("gap recovered" in heads) == (missing not in ("teacher", "learner"))


def test_a_single_model_has_no_differences(evaluated):
    for model in ("teacher", "learner", "kd"):
        state.forget(evaluated.files.run_dir, f"evaluate.{model}")
    (row,) = table(report.build(evaluated), "chrF").values()
    assert row.keys() == {"model", "BLEU", "chrF"}


def test_same_seed_same_report(evaluated):
    assert report.build(evaluated) == report.build(evaluated)


def test_exported_models_have_size_and_speed(measured):
    _, text, content = measured
    points, scores = table(text, "÷ teacher"), table(text, "gap recovered")
    assert text.index("÷ teacher") < text.index("gap recovered")
    # The rates are of a run before there were operating points: all with one beam.
    assert list(points["KA, top-8"].values()) == [
        "KA, top-8",
        "6",
        "41.2",
        "41.2",
        "82.5",
        "4.1",
        "–",
    ]
    assert points["learner"]["dominated by"] == "KA, top-8 at beam 6"
    assert table(text, "words/s")["learner"]["words/s"] == "800"
    assert list(scores["teacher"]) == ["model", "BLEU", "chrF", "gap recovered", "vs KD"]
    sizes = table(text, "MB")
    assert [sizes[name]["MB"] for name in ("KA, top-8", "KD (forward KL)")] == ["8.2", "–"]
    assert "- Not exported: KD (forward KL): CTranslate2 has no adaptive softmax" in text
    learner = next(row for row in content["models"] if row["model"] == "learner")
    assert learner["export"]["megabytes"] == 8
    point = next(
        row for row in content["operating_points"]["test"]["rows"] if row["model"] == "learner"
    )
    assert point["times_teacher"] == 4 and point["dominated_by"] == 2
    assert content["measured"]["settings"]["all_threads"] == {"threads": 8}
    assert "![BLEU over speed](quality_over_speed.png)" in text


@pytest.mark.parametrize("name", ["validation_bleu", "transfer_loss", "quality_over_speed"])
def test_plots_are_pictures(measured, name):
    folder, _, _ = measured
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / f"{name}.svg").read_text(encoding="utf-8")


def test_plots_have_their_numbers_beside_them(measured):
    folder, _, _ = measured
    found = pd.read_csv(folder / "validation_bleu.csv")
    kd = found[found.model == "kd"]
    assert [list(kd.epoch), list(kd.bleu)] == [[1, 2], [61, 62]]
    assert pd.read_csv(folder / "transfer_loss.csv").empty  # no log has any
    found = pd.read_csv(folder / "quality_over_speed.csv").set_index("model")
    kept = found[["beam", "one_thread.sentences_per_second", "bleu", "dominated"]]
    assert kept.T.to_dict("list") == {
        "teacher": [6, 20, 10, True],
        "learner": [6, 80, 40, True],
        "topk": [6, 82.5, 41.25, False],
    }


def test_an_epoch_that_was_repeated_counts_once(tmp_path):
    log = tmp_path / "kd.log"
    log.write_text(log_text([1, 2]) + '[x] - {"epoch": 3, "valid_bl\n' + log_text([1, 2.5, 3]))
    records = training_log.read(log)
    assert training_log.by_epoch(records, "valid_bleu") == {1: 1, 2: 2.5, 3: 3}
    assert sum(training_log.by_epoch(records, "train_train_wall").values()) == 90


def test_the_threads_of_the_trainings_are_told(evaluated):
    def hardware(**threads):
        for model, count in threads.items():
            record = state.read(evaluated.files.run_dir, model)
            facts = {**record.facts, "threads": count}
            state.write(evaluated.files.run_dir, model, replace(record, facts=facts))
        return report.collect(evaluated, tidy.of_points([]))["system"]["Hardware"]

    assert "a training" not in hardware()
    assert "CPU cores, 1 thread a training" in hardware(kd=1, topk=1)
    assert "CPU cores, 1 or 2 threads a training" in hardware(teacher=2)
