from __future__ import annotations

import json

import pytest
from pipeline import evaluate, files, report, state, training_log

REFERENCES = [f"The number of row {n} is shown in the dialog" for n in range(40)]
GOOD = [line.replace("shown", "displayed") if n % 4 else line for n, line in enumerate(REFERENCES)]
BAD = ["The dialog shows" for _ in REFERENCES]


def log_text(bleus):
    lines = ["num. shared model params: 1,234,567 (num. trained: 1,234,567)"]
    for epoch, bleu in enumerate(bleus, start=1):
        records = [
            {"epoch": epoch, "valid_loss": "3.1", "valid_bleu": str(bleu)},
            {"epoch": epoch, "train_loss": "3.2", "train_train_wall": "30"},
        ]
        lines += [f"[2026-11-21 10:00:00][train][INFO] - {json.dumps(r)}" for r in records]
    return "\n".join(lines) + "\n"


def add_result(pair, model, translations, bleus):
    pair.log(model).parent.mkdir(parents=True, exist_ok=True)
    pair.log(model).write_text(log_text(bleus), encoding="utf-8")
    facts = {
        "parameters": training_log.parameters(pair.log(model)),
        "train_seconds": sum(
            training_log.by_epoch(training_log.read(pair.log(model)), "train_train_wall").values()
        ),
    }
    state.write(pair.run_dir, model, state.Record({"model": model}, done=True, facts=facts))
    files.write_lines(pair.evaluate_dir / f"{model}.en", translations)
    record = state.Record({}, done=True, facts=evaluate.score(translations, REFERENCES))
    state.write(pair.run_dir, f"evaluate.{model}", record)


@pytest.fixture
def evaluated(pair):
    files.write_lines(pair.text_dir / "test.en", REFERENCES)
    pairs = {"train": 9, "valid": 8, "test": 40}
    facts = {"text": "hand-made", "pairs": pairs}
    state.write(pair.run_dir, "prepare", state.Record({}, done=True, facts=facts))
    add_result(pair, "teacher", REFERENCES, [10, 50, 90])
    add_result(pair, "learner", GOOD, [5, 30, 60, 60])
    add_result(pair, "kd", GOOD, [61, 62])
    add_result(pair, "topk", BAD, [50, 2])
    return pair


def test_table(evaluated):
    text = report.build(evaluated)
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    names = [row.split("|")[1].strip() for row in rows]
    assert names == ["teacher", "learner", "KD (forward KL)", "KA, top-8"]
    cells = [cell.strip() for cell in rows[0].split("|")[1:-1]]
    assert cells == ["teacher", "100.0", "100.0", "1.000", "1.000", cells[5], "1.23 M", "1.5"]
    assert float(cells[5]) < 0.05
    assert rows[2].split("|")[6].strip() == "–"
    assert "`nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in text
    assert "`nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:" in text
    assert text == (evaluated.run_dir / "report.md").read_text(encoding="utf-8")


def test_json_holds_the_numbers(evaluated):
    report.build(evaluated)
    content = json.loads((evaluated.run_dir / "report.json").read_text(encoding="utf-8"))
    models = {row["model"]: row for row in content["models"]}
    assert models["teacher"]["bleu"] == pytest.approx(100)
    assert models["topk"]["brevity_penalty"] < 0.1
    assert models["topk"]["length_ratio"] == pytest.approx(3 / 10)
    assert models["learner"]["train_minutes"] == 2
    assert models["kd"]["p_value"] is None
    # The same translations as the baseline's.
    assert models["learner"]["p_value"] == 1
    assert models["topk"]["p_value"] < 0.05


def test_same_seed_same_report(evaluated):
    assert report.build(evaluated) == report.build(evaluated)


def test_without_the_baseline_there_is_no_p_value(evaluated):
    state.forget(evaluated.run_dir, "evaluate.kd")
    assert all(row["p_value"] is None for row in report.collect(evaluated))


@pytest.mark.parametrize("name", ["validation_bleu", "transfer_loss"])
def test_plots_are_pictures(evaluated, name):
    report.build(evaluated)
    assert (evaluated.run_dir / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (evaluated.run_dir / f"{name}.svg").read_text(encoding="utf-8")


def test_an_epoch_that_was_repeated_counts_once(tmp_path):
    log = tmp_path / "kd.log"
    log.write_text(log_text([1, 2]) + '[x] - {"epoch": 3, "valid_bl\n' + log_text([1, 2.5, 3]))
    records = training_log.read(log)
    assert training_log.by_epoch(records, "valid_bleu") == {1: 1, 2: 2.5, 3: 3}
    assert sum(training_log.by_epoch(records, "train_train_wall").values()) == 90
