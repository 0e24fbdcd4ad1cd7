"""A comparison at two sizes and two beams, with translators of a few lines: all but trainings."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from lxml import html
from pipeline import compare
from pipeline.comparison import POINTS
from pipeline.engine import files, state
from pipeline.models import settings
from pipeline.results import comparison_report, evaluate, report, speed, tidy

from tests.pipeline import exported

# What each makes of the word "Satz": the more wrong words, the worse.
WORDS = {"teacher": "sentence", "kd": "sentence x", "control": "x x", "learner": "x x x"}
SECONDS = {"teacher": 0.006, "": 0.003, "small": 0.0015}  # a sentence
LINES = [f"{n} Satz of this text is shown here" for n in range(12)]
REFERENCES = [line.replace("Satz", WORDS["teacher"]) for line in LINES]


def add_training(pair, training, word, seconds):
    """What is left of a training that was evaluated and exported."""
    record = {"epoch": 1, "valid_bleu": "20"}
    files.write_text(pair.files.log(training), f"[x][train][INFO] - {json.dumps(record)}\n")
    facts = {"parameters": 1000, "train_seconds": 60}
    state.write(pair.files.run_dir, training, state.Record({}, done=True, facts=facts))
    translations = [line.replace("Satz", word) for line in LINES]
    files.write_lines(pair.files.evaluate_dir / f"{training}.en", translations)
    facts = evaluate.score(translations, REFERENCES)
    state.write(
        pair.files.run_dir, f"evaluate.{training}", state.Record({}, done=True, facts=facts)
    )
    exported.add_folder(pair, training, word, seconds)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The pair after the stages that come after trainings, and what ``compare.json`` holds."""
    pair = settings.load(settings.CONFIGS / "iwslt15_th_en", tmp_path_factory.mktemp("runs"))
    files.write_lines(pair.source, LINES)
    files.write_lines(pair.reference, REFERENCES)
    facts = {"text": "hand-made", "pairs": {"train": 9, "valid": 8, "test": 12}}
    state.write(pair.files.run_dir, "prepare", state.Record({}, done=True, facts=facts))
    found = compare.planned(pair, methods=["control", "kd"], seeds=2, sizes=["own", "small"])
    for one in found.sizes:
        for model in one.shown:
            size = "teacher" if model == "teacher" else one.size
            word = WORDS[model] + (" y" if size == "small" else "")
            for training in one.trainings(model):
                add_training(pair, training.name, word, SECONDS[size])
    (points,) = (stage for stage in found.stages(lambda _: {}) if stage.name == POINTS)
    points.execute(pair.files)
    comparison_report.build(found)
    report.build(pair)
    return pair, json.loads((pair.files.run_dir / "compare" / "compare.json").read_text("utf-8"))


def test_all_seeds_of_all_sizes_are_measured_at_each_beam(built):
    pair, _ = built
    table = pd.read_csv(pair.files.run_dir / "compare" / "points.csv", keep_default_na=False)
    assert list(table) == tidy.COLUMNS
    bleu = table[table.metric == "bleu"]
    counts = bleu.groupby(["model", "size", "beam"], sort=False).size().to_dict()
    students = [(m, size, 2) for size in ("", "small") for m in ("learner", "control", "kd")]
    models = [("teacher", "", 1), *students]
    assert counts == {(model, size, beam): n for model, size, n in models for beam in (6, 1)}
    assert len(speed.facts(pair, POINTS)["points"]) == sum(counts.values())


def test_rows_are_means_over_seeds_and_know_what_dominates_them(built):
    _, content = built
    rows = content["operating_points"]["test"]["rows"]
    by_place = {(row["model"], row["size"], row["beam"]): row for row in rows}
    assert len(by_place) == 14
    assert by_place["teacher", "", 6]["dominated_by"] is None
    control, kd = (by_place[name, "small", 6] for name in ("control", "kd"))
    assert control["bleu"] < kd["bleu"] < by_place["kd", "", 6]["bleu"] < 100
    # The translator says a word too much greedily, and takes half the time.
    greedy = by_place["kd", "small", 1]
    assert greedy["bleu"] < kd["bleu"] and greedy[tidy.SPEED] > kd[tidy.SPEED]


def test_what_kd_is_worth_is_said_and_stands_in_page_and_tables(built):
    pair, content = built
    (said,) = content["operating_points"]["test"]["worth"]
    assert said.startswith("Worth of KD (forward KL) against control (NLL): at equal speed +")
    text = (pair.files.run_dir / "compare" / "compare.md").read_text("utf-8")
    assert f"- {said}" in text and "![BLEU over speed](quality_over_speed.png)" in text
    page = html.parse(pair.files.run_dir / "report.html").getroot()
    assert said in page.text_content()
    drawn = [image.get("alt") for image in page.findall(".//img")]
    assert "BLEU over sentences a second of the comparison" in drawn


def test_tables_have_the_size_as_a_column(built):
    pair, content = built
    (other,) = content["other_sizes"]
    assert (content["size"], other["size"]) == ("", "small")
    scores = pd.read_csv(pair.files.run_dir / "compare" / "scores.csv")
    assert scores["student"].dropna().unique().tolist() == ["small"]
    assert len(scores) == 2 * (1 + 3 * 2)
    text = (pair.files.run_dir / "compare" / "compare.md").read_text("utf-8")
    heads = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| model")]
    assert len(heads) == 5 and all(head[1].strip() == "size" for head in heads)


def test_another_report_takes_the_numbers_as_long_as_the_models_are_the_same(built):
    pair, _ = built
    another = state.Record({"model": "another"}, done=True)
    state.write(pair.files.run_dir, "export.compare/small/2/kd", another)
    points = speed.facts(pair, POINTS)["points"]
    assert len(points) == 24 and "compare/small/2/kd" not in {point["model"] for point in points}
