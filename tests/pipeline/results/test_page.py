from __future__ import annotations

import base64
import json
import re
from functools import partial
from pathlib import Path

import pytest
from lxml import html
from pipeline.engine import files, state
from pipeline.models import settings
from pipeline.results import analyse, page, point_tables, report, score_tables, sentences, tables

from tests.pipeline import scored
from tests.pipeline.scored import REFERENCES, add
from tests.pipeline.shown import assert_fits, cells

NAMES = settings.load(settings.CONFIGS / "demo", Path()).titles


@pytest.fixture
def evaluated(pair):
    return scored.fill(pair)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run that no test changes: what ``report.json`` and ``report.html`` hold."""
    pair = scored.fill(settings.load(settings.CONFIGS / "demo", tmp_path_factory.mktemp("runs")))
    document = built(pair)
    return files.read_json(pair.files.run_dir / "report.json"), document


def built(pair):
    """The page of a pair, made anew."""
    report.build(pair)
    return html.parse(pair.files.run_dir / "report.html").getroot()


def test_the_page_is_one_file_that_asks_for_nothing(written):
    _, document = written
    assert document.findall(".//link") == [] and document.findall(".//iframe") == []
    addresses = [image.get("src") for image in document.findall(".//img")]
    addresses += [link.get("href") for link in document.findall(".//a")]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    scripts = document.findall(".//script")
    assert [script.get("src") for script in scripts] == [None, None]
    # Browsers keep it from asking, too.
    (policy,) = document.findall(".//meta[@http-equiv='Content-Security-Policy']")
    assert policy.get("content").startswith("default-src 'none'; ")
    text = html.tostring(document, encoding="unicode")
    assert not re.search(r"url\(|@import|https?://|\bimport\b|fetch|XMLHttp", text)


def test_what_the_page_shows(written):
    content, document = written
    text = html.tostring(document, encoding="unicode")
    assert "Satz &lt;5&gt;" in text and "Satz <5>" not in text
    assert "(nothing)" in text
    assert "nrefs:1|case:mixed|eff:no" in text
    # No model was trained, so there is nothing to analyse.
    assert "What the students do" not in text
    (test,) = content["tests"]
    expected_tables = (
        score_tables.points(content, test, NAMES),
        *score_tables.rates(content, test, NAMES),
        score_tables.scores(content, test, NAMES),
        score_tables.details(content, test, NAMES),
        score_tables.trainings(content, NAMES),
        score_tables.model_sizes(content, NAMES),
    )
    assert len(expected_tables) == 6
    for table, expected in zip(
        document.findall(".//table[@class='rows']"), expected_tables, strict=True
    ):
        assert cells(table.findall("thead/tr/th")) == list(expected[0])
        found = [cells(row) for row in table.findall("tbody/tr")]
        assert found == [list(row.values()) for row in expected]


def test_each_difference_has_its_interval_as_a_bar(written):
    content, document = written
    (test,) = content["tests"]
    of = (score_tables.scores(content, test, NAMES), score_tables.details(content, test, NAMES))
    expected = [cell for rows in of for row in rows for cell in row.values()]
    count = sum(isinstance(cell, tables.Difference) for cell in expected)
    bars = document.xpath(".//td[starts-with(@class, 'difference')]/svg")
    assert len(bars) == count > 0
    for drawing in bars:
        places = [float(line.get(end)) for line in drawing.iter("line") for end in ("x1", "x2")]
        assert all(0 <= place <= 100 for place in places)


def test_without_javascript_there_are_the_largest_gains_and_losses(written):
    _, document = written
    (section,) = document.findall(".//section[@id='translations']")
    assert section.find("form").get("hidden") is not None
    numbers = [found.text for found in section.findall(".//article/p/span")]
    assert [number for number in numbers if number.startswith("sentence")] == [
        "sentence 4",
        "sentence 6",
    ]
    kd = [dd.text for dd in section.findall(".//article[1]/dl/dd[@class='compared']")]
    assert "This is wrong" in kd


def data_of(document):
    (script,) = document.findall(".//script[@id='translations-data']")
    return json.loads(script.text)


def test_any_two_models_can_be_compared(evaluated, written):
    _, document = written
    assert data_of(document) == json.loads(json.dumps(sentences.collect(evaluated)))  # the same run
    for select in ("model", "other"):
        options = document.findall(f".//select[@name='{select}']/option")
        assert [option.text for option in options] == data_of(document)["titles"]
    chosen = [option.text for option in document.findall(".//option[@selected]")]
    assert chosen == [NAMES["ka"], NAMES["kd"]]


def test_a_sentence_cannot_end_the_script_that_it_stands_in(evaluated):
    worst = ["</script><script>alert(1)</script>", "<!--<script>", *REFERENCES[2:]]
    add(evaluated, "ka", worst)
    document = built(evaluated)
    assert len(document.findall(".//script")) == 2
    texts = [row["texts"][-1] for row in data_of(document)["sentences"]]
    assert texts == worst


def test_a_long_test_set_is_cut_and_the_page_says_so(evaluated, written, monkeypatch):
    assert "of the 12 test sentences" not in written[1].text_content()
    monkeypatch.setattr(page.sentences, "collect", partial(sentences.collect, most=5))
    assert "holds 5 of the 12 test sentences" in built(evaluated).text_content()


def test_with_one_model_there_are_no_translations(evaluated):
    for name in ("learner", "kd", "ka"):
        state.forget(evaluated.files.run_dir, f"evaluate.{name}")
    assert not built(evaluated).xpath(".//*[starts-with(@id, 'translations')]")


def test_each_figure_has_its_numbers(evaluated, monkeypatch):
    made = scored.analysis(evaluated)
    monkeypatch.setattr(analyse, "analyse", lambda pair: made)
    document = built(evaluated)
    links = document.findall(".//a[@download]")
    assert len(links) == len(document.findall(".//img")) == 5
    for link in links:
        kind, _, encoded = link.get("href").partition(";base64,")
        assert kind == "data:text/csv"
        (kept,) = evaluated.files.run_dir.rglob(link.get("download"))
        assert base64.b64decode(encoded) == kept.read_bytes()


def test_the_first_is_not_marked_where_its_interval_holds_zero(written):
    """KD and KA are wrong in a line each, which is chance."""
    content, document = written
    assert not content["tests"][0]["leader"]["best"]
    assert document.findall(".//tr[@class='best']") == []


def test_the_best_is_marked_where_its_interval_excludes_zero(evaluated):
    add(evaluated, "ka", ["This is wrong"] * len(REFERENCES))
    (row,) = built(evaluated).findall(".//tr[@class='best']")
    assert cells(row)[0] == NAMES["kd"]


def test_quality_over_speed_is_drawn_where_models_were_measured(evaluated, written):
    _, document = written
    drawn = "BLEU over sentences a second"
    assert [image.get("alt") for image in document.findall(".//img")].count(drawn) == 1
    state.forget(evaluated.files.run_dir, "speed")
    text = html.tostring(built(evaluated), encoding="unicode")
    assert drawn not in text and "Which model" not in text
    assert not list(evaluated.files.run_dir.glob("quality_over_speed.*"))


def test_each_table_scrolls_in_a_box_that_the_keyboard_reaches(written):
    _, document = written
    for table in document.findall(".//table[@class='rows']"):
        box = table.getparent()
        assert box.get("class") == "scroll" and box.get("tabindex") == "0"
        assert box.get("role") == "region" and box.get("aria-label")
        assert {head.get("scope") for head in table.findall("thead/tr/th")} == {"col"}


def test_the_widest_tables_of_rates_fit_without_scrolling(written):
    """Those of scores: test_comparison.py."""
    content, document = written
    times = dict.fromkeys(("sentences_per_second", "words_per_second", "p50_ms", "p95_ms"), 12345.6)
    measured = dict.fromkeys(("one_thread", "all_threads", "gpu"), times)
    point = {"model": "ka", "size": "medium", "beam": 12, "lenpen": 1.25, "length_ratio": 1.234}
    point |= {"bleu": 100.0, "chrf": 100.0, "times_teacher": 123.4, "dominated_by": 0}
    point |= {f"{setting}.{unit}": rate for setting in measured for unit, rate in times.items()}
    points = [{**point, "model": model} for model in NAMES]
    content["measured"]["settings"] = {key: {"threads": 128} for key in measured}
    for table in (
        point_tables.points(points, NAMES),
        point_tables.rates(points, NAMES, content["measured"]),
        point_tables.rates_on_gpu(points, NAMES, content["measured"]),
    ):
        assert_fits(document, table)


def colours(dark):
    """The style sheet's, by name."""
    style = (page.FOLDER / page.STYLE).read_text(encoding="utf-8")
    blocks = re.findall(r":root \{([^}]*)\}", style)
    found = dict(re.findall(r"--([\w-]+): #(\w+)", blocks[0]))
    return found | dict(re.findall(r"--([\w-]+): #(\w+)", blocks[1])) if dark else found


def luminance(colour):
    """By WCAG 2.2, of ``rgb`` or ``rrggbb``."""
    digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    parts = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("back", ["paper", "mark", "warn-back"])
def test_letters_stand_out(dark, back):
    """WCAG 2.2, 1.4.3: at least 4.5 to 1."""
    found = colours(dark)
    letters = ["ink", "soft", "blue", "warn"] if back == "paper" else ["ink"]
    for name in letters:
        low, high = sorted((luminance(found[name]), luminance(found[back])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, name
    assert (luminance(found["paper"]) < luminance(found["ink"])) is dark


def test_models_without_a_checkpoint_of_an_epoch_are_not_analysed(pair):
    """As where max_update ends the first epoch."""
    for model in ("teacher", "learner", "kd"):
        state.write(pair.files.run_dir, model, state.Record({}, done=True))
        files.write_text(pair.files.best_checkpoint(model), "weights")
        files.write_text(pair.files.last_checkpoint(model), "weights")
    assert analyse.analyse(pair) is None


@pytest.mark.parametrize(
    ("gpu", "validated", "expected"), [(False, 500, 2), (True, 500, 1), (False, 80, 1)]
)
def test_parts_of_the_analysis_share_cores_and_no_gpu(monkeypatch, gpu, validated, expected):
    monkeypatch.setattr(analyse.torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(analyse.parallel, "cores", lambda: 2)
    assert analyse.processes_for(4, validated) == expected
