from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from lxml import html
from pipeline import analyse, evaluate, files, page, report, settings, state, tables

from tests.pipeline.exported import add_speed

NAMES = settings.load(settings.CONFIGS / "demo", Path()).titles
SOURCES = [f"Satz <{number}>" for number in range(12)]
REFERENCES = [f"This is sentence number {number} of the test" for number in range(12)]


def add(pair, model, translations):
    files.write_lines(pair.evaluate_dir / f"{model}.en", translations)
    facts = evaluate.score(translations, REFERENCES)
    state.write(pair.run_dir, f"evaluate.{model}", state.Record({}, done=True, facts=facts))


@pytest.fixture
def evaluated(pair):
    """Test sets scored by hand: KA is better than KD on line 3 and worse on line 5."""
    files.write_lines(pair.text_dir / "test.de", SOURCES)
    files.write_lines(pair.text_dir / "test.en", REFERENCES)
    facts = {"text": "hand-made", "pairs": {"train": 9, "valid": 8, "test": 12}}
    state.write(pair.run_dir, "prepare", state.Record({}, done=True, facts=facts))
    same = list(REFERENCES)
    kd, ka = list(same), list(same)
    kd[3], ka[5] = "This is wrong", ""
    for model, translations in {"teacher": same, "learner": same, "kd": kd, "ka": ka}.items():
        add(pair, model, translations)
    add_speed(pair, teacher=20.0, learner=80.0, ka=81.0)
    return pair


def test_wins_and_losses(evaluated):
    found = page.samples(evaluated)
    (win,), (loss,) = found["wins"], found["losses"]
    assert win["reference"] == REFERENCES[3] and win["translations"]["kd"] == "This is wrong"
    assert loss["source"] == SOURCES[5] and loss["translations"]["ka"] == ""
    assert win["difference"] > 0 > loss["difference"]


def test_without_both_there_are_no_samples(evaluated):
    state.forget(evaluated.run_dir, "evaluate.kd")
    assert page.samples(evaluated) == {"wins": [], "losses": []}


def test_the_page_is_one_file_that_asks_for_nothing(evaluated):
    report.build(evaluated)
    text = (evaluated.run_dir / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text and "<link" not in text
    assert all(address.startswith("data:") for address in re.findall(r'src="([^"]*)"', text))
    assert not re.search(r"url\(|@import|https?://", text)


@pytest.fixture
def written(evaluated):
    """What ``report.json`` and ``report.html`` hold."""
    report.build(evaluated)
    content = json.loads((evaluated.run_dir / "report.json").read_text(encoding="utf-8"))
    return content, html.parse(evaluated.run_dir / "report.html").getroot()


def cells(row):
    return [cell.text_content().replace("\N{NO-BREAK SPACE}", " ") for cell in row]


def test_what_the_page_shows(evaluated, written):
    content, document = written
    text = (evaluated.run_dir / "report.html").read_text(encoding="utf-8")
    assert "Satz &lt;5&gt;" in text and "Satz <5>" not in text
    assert "(nothing)" in text
    assert "nrefs:1|case:mixed|eff:no" in text
    # No model was trained, so there is nothing to analyse.
    assert "What the learners do" not in text
    expected_tables = (
        tables.scores(content, NAMES, chrf_gap=True),
        tables.differences(content, NAMES),
        tables.exports(content, NAMES),
        tables.sizes(content, NAMES),
    )
    for table, expected in zip(
        document.findall(".//table[@class='rows']"), expected_tables, strict=True
    ):
        assert cells(table.findall("thead/tr/th")) == list(expected[0])
        found = [cells(row) for row in table.findall("tbody/tr")]
        assert found == [list(row.values()) for row in expected]


def test_the_first_is_not_marked_where_its_interval_holds_zero(written):
    """KD and KA are wrong in a line each, which is chance."""
    content, document = written
    assert not content["leader"]["best"]
    assert document.findall(".//tr[@class='best']") == []


def test_the_best_is_marked_where_its_interval_excludes_zero(evaluated):
    add(evaluated, "ka", ["This is wrong"] * len(REFERENCES))
    report.build(evaluated)
    document = html.parse(evaluated.run_dir / "report.html")
    (row,) = document.findall(".//tr[@class='best']")
    assert cells(row)[0] == NAMES["kd"]


def test_quality_over_speed_is_drawn_where_models_were_measured(evaluated, written):
    _, document = written
    drawn = "BLEU over sentences a second"
    assert [image.get("alt") for image in document.findall(".//img")].count(drawn) == 1
    state.forget(evaluated.run_dir, "speed")
    report.build(evaluated)
    text = (evaluated.run_dir / "report.html").read_text(encoding="utf-8")
    assert drawn not in text and "As exported" not in text
    assert not list(evaluated.run_dir.glob("quality_over_speed.*"))


def test_each_cell_names_its_column_where_the_heads_are_hidden(written):
    """On narrow screens a row is a block; what stands before a cell is its attribute."""
    _, document = written
    for table in document.findall(".//table[@class='rows']"):
        _, *heads = cells(table.findall("thead/tr/th"))
        for row in table.findall("tbody/tr"):
            assert [cell.get("data-head") for cell in row[1:]] == heads


def assert_fits(document, table):
    """From the width at which the style sheet makes rows blocks, whole tables must fit.

    A column is at least as wide as its longest part that has no place to break; 0.6 em is a wide
    font's mean character.
    """
    style = document.findtext(".//style")
    assert "nowrap" not in style

    def pixels(pattern):
        return 16 * float(re.search(pattern + r" ?([\d.]+)rem", style)[1])

    space = pixels(r"@media \(max-width:") - 2 * pixels(r"main \{[^}]*padding: \S+")
    # Names of models break at any space.
    rows = [[name, *map(page._unbroken, cells)] for name, *cells in map(dict.values, table)]
    columns = zip(table[0], *rows, strict=True)
    longest = [max(len(part) for text in c for part in text.split(" ")) for c in columns]
    characters = 0.6 * pixels(r"table \{[^}]*font-size:") * sum(longest)
    assert characters + 2 * len(longest) * pixels(r"th, td \{ padding: \S+") <= space


def test_the_widest_tables_fit_where_rows_are_not_blocks(written):
    content, document = written
    difference = {"bleu": -10.04, "low": -12.34, "high": -10.02, "p_value": 0.123}
    row = {
        **content["models"][0],
        "parameters": 123_456_789,
        "train_minutes": 1234.5,
        "gap_recovered": {"bleu": -1.234, "chrf": -1.234},
        "differences": dict.fromkeys(tables.BASELINES, difference),
        "export": {"quantization": "int8_float32", "megabytes": 12345.6},
    }
    times = dict.fromkeys(("sentences_per_second", "words_per_second", "p50_ms", "p95_ms"), 12345.6)
    measured = dict.fromkeys(("one_thread", "all_threads", "gpu"), times)
    row["speed"] = {**measured, "bleu": 100.0, "times_teacher": 123.4}
    content["measured"]["settings"] = {key: {"threads": 128} for key in measured}
    content["measured"]["quantization"] = "int8_float32"
    content["models"] = [{**row, "model": model} for model in NAMES]
    content["baselines"] = list(tables.BASELINES)
    for table in (
        tables.scores(content, NAMES, chrf_gap=True),
        tables.differences(content, NAMES),
        tables.exports(content, NAMES),
        tables.exports_on_gpu(content, NAMES),
        tables.sizes(content, NAMES),
    ):
        assert_fits(document, table)


def test_models_without_a_checkpoint_of_an_epoch_are_not_analysed(pair):
    """As where max_update ends the first epoch."""
    for model in ("teacher", "learner", "kd"):
        state.write(pair.run_dir, model, state.Record({}, done=True))
        files.write_text(pair.best_checkpoint(model), "weights")
        files.write_text(pair.last_checkpoint(model), "weights")
    assert analyse.analyse(pair) is None
