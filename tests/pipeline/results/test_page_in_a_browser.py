"""The report page in Chromium, at three widths, light and dark; skipped where there is none."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import html
from pipeline.engine import files
from pipeline.models import settings
from pipeline.results import analyse, report
from pipeline.results.evaluation_sets import MAIN

from tests.pipeline import scored
from tests.pipeline.scored import NEWS, REFERENCES, SOURCES, add

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
WIDTHS = (360, 900, 1600)
DRIVER = Path(__file__).with_name("page_driver.js")

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page with everything, and with a sentence, a word and tokens that are long."""
    pair = scored.fill(settings.load(settings.CONFIGS / "demo", tmp_path_factory.mktemp("runs")))
    for model in ("control", "mixture", "topk"):
        add(pair, model, [line.replace("test", model) for line in REFERENCES])
    comparison = scored.compared(pair, REFERENCES, REFERENCES)
    content = scored.built(replace(comparison, tests=(MAIN, NEWS)))
    files.write_json(
        pair.files.run_dir / "compare" / "compare.json", scored.widest(content, pair.titles)
    )
    files.write_lines(pair.source, [*SOURCES[:-1], "Donaudampfschiff" * 20])
    made = scored.analysis(pair)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analyse, "analyse", lambda pair: made)
        report.build(pair)
    return (pair.files.run_dir / "report.html").as_uri()


def look(address, folder, *options):
    """What the driver saw."""
    frames = "".join(f'<iframe src="{address}" width="{w}" height="800"></iframe>' for w in WIDTHS)
    script = f'<pre id="found"></pre><script>{DRIVER.read_text(encoding="utf-8")}</script>'
    text = f'<!DOCTYPE html><meta charset="utf-8">{frames}{script}'
    holder = folder / "holder.html"
    holder.write_text(text, encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    # Without these it looks for its makers' hosts at every start.
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command += ["--disable-sync", "--disable-quic"]
    # The page that holds the frames may look into them only with this.
    command += ["--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"]
    command += [*options, "--window-size=1700,2600", holder.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(html.fromstring(result.stdout).findtext(".//pre[@id='found']"))


@pytest.fixture(scope="module")
def seen(address, tmp_path_factory):
    return look(address, tmp_path_factory.mktemp("light"))


@pytest.mark.parametrize("place", range(len(WIDTHS)), ids=map(str, WIDTHS))
def test_nothing_is_clipped(seen, place):
    found = seen["layouts"][place]
    assert found["width"] == WIDTHS[place]
    assert found["beyond"] <= 0
    assert found["clipped"] == []


def test_from_a_tablets_width_on_no_table_scrolls(seen):
    assert [found["scrolling"] for found in seen["layouts"][1:]] == [[], []]


def test_in_the_dark_it_is_dark(seen, address, tmp_path):
    dark = look(address, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert (seen["background"], dark["background"]) == ("rgb(255, 255, 255)", "rgb(18, 18, 18)")
    assert seen["figure"] == "none" and dark["figure"].startswith("invert(")
    assert [found["clipped"] for found in dark["layouts"]] == [[], [], []]


def directions(steps, place=1):
    return [step["heads"][place] for step in steps]


def test_a_table_sorts_and_goes_back(seen):
    found = seen["sorting"]
    assert directions(found["names"], 0) == ["ascending", "descending", "none"]
    first, second, third = (step["column"] for step in found["names"])
    assert sorted(first) == sorted(found["given"]) and first == second[::-1]
    assert third == found["given"] != first
    assert first.index("KA, top-8") < first.index("learner") < first.index("teacher")


def test_numbers_sort_by_size_and_headings_say_so(seen):
    steps = seen["sorting"]["numbers"]
    assert directions(steps) == ["descending", "ascending", "none"]
    for step in steps:
        assert step["reached"]  # by the keyboard: it is a button
        assert set(step["heads"]) <= {"none", directions([step])[0]}
        assert step["heads"].count("none") >= len(step["heads"]) - 1
    numbers = [float(text) for text in steps[0]["column"]]
    assert numbers == sorted(numbers, reverse=True) and len(set(numbers)) > 2
    assert [float(text) for text in steps[1]["column"]] == sorted(numbers)


def test_differences_sort_by_themselves_with_what_is_missing_last(seen):
    down, up, _ = (step["column"] for step in seen["sorting"]["differences"])
    assert down[-1] == up[-1] == "–"
    values = [float(text.split()[0]) for text in down[:-1]]
    assert values == sorted(values, reverse=True) and len(set(values)) > 1


def test_the_page_begins_with_gains_of_ka_over_kd(seen):
    found = seen["exploring"]
    assert found["visible"]
    assert found["gains"]["numbers"] == ["sentence 4"]
    assert found["gains"]["differences"][0].startswith("+")
    assert found["gains"]["status"].startswith(
        "KA (backward KL) is better than KD (forward KL) on 1 of 12 sentences, worse on 1"
    )
    first = found["gains"]["first"]
    assert first[:4] == ["source", SOURCES[3], "reference", REFERENCES[3]]
    assert first[4] == "KA (backward KL) (100.0)" and first[5] == REFERENCES[3]
    assert first[6].startswith("KD (forward KL) (") and first[7] == "This is wrong"
    assert len(first) == 2 * (2 + 7)  # and the others below
    assert found["losses"]["numbers"] == ["sentence 6"]
    assert found["losses"]["first"][5] == "(nothing)"


def test_any_two_models_are_chosen(seen):
    """The control, whose sentences all have a word that differs, with the teacher."""
    found = seen["exploring"]["others"]
    assert found["status"].startswith("control (NLL) is better than teacher on 0 of 12")
    values = [float(text.split()[0]) for text in found["differences"]]
    assert values == sorted(values) and max(values) < 0 and len(values) == 10
    assert found["first"][4].startswith("control (NLL) (")
    assert found["first"][6] == "teacher (100.0)"


def test_ten_at_first_and_more_where_one_asks(seen):
    found = seen["exploring"]
    assert found["all"]["numbers"] == [f"sentence {number}" for number in range(1, 11)]
    assert found["all"]["more"] == "Show more (2 left)"
    assert found["afterMore"] == 12


def test_words_are_looked_for(seen):
    found = seen["exploring"]
    assert found["words"]["numbers"] == ["sentence 8"] and found["words"]["more"] == ""
    assert "of 1 sentences with these words" in found["words"]["status"]
    assert found["nothing"]["numbers"] == []


def test_a_model_is_no_better_than_itself(seen):
    assert seen["exploring"]["same"]["numbers"] == []
