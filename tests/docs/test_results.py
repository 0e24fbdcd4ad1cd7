"""The numbers of docs/results.md and of its texts' pages are those of the committed CSVs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support import ROOT

DOCS = ROOT / "docs"
FOLDER = DOCS / "results"
POOLED = r"([+-]\d+\.\d\d)(?: BLEU)?\s+\[(-?\d+\.\d\d),\s+(-?\d+\.\d\d)\]"
# Two decimals, of a trial without a CSV: docs/results.md says so.
OF_A_TRIAL = {(0.69, 0.08, 1.26)}
MODELS = {
    "teacher": "teacher",
    "learner": "learner",
    "learner, longer": "learner_long",
    "three translations": "several",
    "control, longer": "control_longer",
    "control": "control",
    "control (NLL)": "control",
    "KD (forward KL)": "kd",
    "KA (backward KL)": "ka",
    "KD": "kd",
    "KA": "ka",
    "½ KD + ½ KA": "mixture",
    "KA, top-8": "topk",
    "JS divergence": "js",
    "TIE-KD": "tie_kd",
    "seq-Inter": "seq_inter",
    "`seq_inter`": "seq_inter",
    "`seq_inter_mixture`": "seq_inter_mixture",
    "seq-Inter, fine-tuned": "seq_tune",
    "KD on seq-Inter": "seq_inter_kd",
    "KA on seq-Inter": "seq_inter_ka",
    "seq-KD (best)": "seq_kd",
    "seq-KD (MBR)": "seq_mbr",
}
# Each page's tables of means over seeds, in order, and the CSVs that they are of.
TABLES = {
    "demo": ("demo", "demo-40-words", "demo-sequence-level"),
    "multi30k": (
        "multi30k",
        "multi30k",
        "multi30k-first-run",
        "multi30k-lambda",
        "multi30k-longer",
    ),
    "multi30k-layers": ("multi30k-layers", "multi30k-layers"),
    "ted": ("ted",),
    "th-en": ("th-en", "th-en-second-run"),
    "wmt": ("wmt", "wmt-second-run"),
}
CASES = [(page, place) for page, names in TABLES.items() for place in range(len(names))]
# A row of another CSV than its table's.
ELSEWHERE = {("demo-40-words", "seq_inter"): "demo-sequence-level"}
# The columns of the table of all texts, and the models there whose rows are of other CSVs.
TEXTS = {
    "the demo": ("demo", "test"),
    "Multi30k, test_2016": ("multi30k", "test_2016_flickr"),
    "Multi30k, test_2017": ("multi30k", "test_2017_flickr"),
    "TED talks": ("ted", "test"),
    "newstest2017": ("wmt", "test"),
    "Thai–English, tst2012 + tst2013": ("th-en", "test"),
}
OTHER_RUNS = {
    **{("multi30k", model): "multi30k-lambda" for model in ("kd", "ka", "mixture")},
    **{
        (text, model): f"{text}-second-run"
        for text in ("wmt", "th-en")
        for model in ("js", "tie_kd")
    },
}


def tables(page: Path) -> list[list[list[str]]]:
    """Return a page's tables: rows of cells, the header first, without the line below it."""
    found: list[list[list[str]]] = []
    inside = False
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("|"):
            found += [] if inside else [[]]
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        inside = line.startswith("|")
    return [[table[0], *table[2:]] for table in found]


def numbers(cell: str) -> list[float]:
    """Return a cell's numbers, without the seed that it may name."""
    return [float(number) for number in re.findall(r"[+-]?\d+(?:\.\d+)?", _without_seed(cell))]


def _without_seed(cell: str) -> str:
    return re.sub(r"\(seed \d\)", "", cell)


def assert_close(cell: str, values: list[float]) -> None:
    """Compare a cell with unrounded values, half a unit of its last digit apart at most."""
    digits = len(cell.split()[0].rpartition(".")[2]) if "." in cell else 0
    assert numbers(cell) == pytest.approx(values, abs=0.5001 * 10**-digits), (cell, values)


@pytest.mark.parametrize(("page", "place"), CASES)
def test_means_deviations_and_differences(page, place):
    """The cells of a table of methods; intervals where the comparison's CSV is kept."""
    of_seeds = [table for table in tables(FOLDER / f"{page}.md") if "±" in str(table)]
    assert len(of_seeds) == len(TABLES[page])
    name = TABLES[page][place]
    header, *rows = of_seeds[place]
    for row in rows:
        model = MODELS[row[0]]
        scores = Scores(ELSEWHERE.get((name, model), name), model)
        checked = [scores.check(*cell) for cell in measured(header, row)]
        assert any(checked), row


def measured(header: list[str], row: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield test set, column and content of a row's cells that have content."""
    test = "test"
    for title, cell in zip(header[1:], row[1:], strict=True):
        *named, column = title.split(": ")
        test = f"{named[0]}_flickr" if named else test
        if cell not in ("–", "", "(last)"):
            yield test, column, cell


class Scores:
    """What the CSVs have of one model."""

    def __init__(self, name: str, model: str) -> None:
        self.seeds = pd.read_csv(FOLDER / f"{name}-seeds.csv")
        summary = FOLDER / f"{name}.csv"
        self.summary = pd.read_csv(summary) if summary.exists() else None
        self.model = model

    def check(self, test: str, column: str, cell: str) -> bool:
        """Compare a cell; return whether a CSV has its number."""
        if column in ("BLEU", "chrF", "length"):
            metric = {"length": "length_ratio"}.get(column, column.lower())
            of_seeds = self.of(test, self.model)[metric]
            deviation = [of_seeds.std()] if "±" in cell else []
            assert_close(cell, [of_seeds.mean(), *deviation])
        elif column == "gap recovered":
            low, high, own = (self.bleu(test, m) for m in ("learner", "teacher", self.model))
            assert_close(cell, [100 * (own - low) / (high - low)])
        elif column in ("vs control", "vs KD") and "(seed" not in cell:
            self.check_difference(test, column.removeprefix("vs ").lower(), cell)
        else:
            return False
        return True

    def check_difference(self, test: str, other: str, cell: str) -> None:
        """Compare a mean difference and, where the CSV has the interval, its ends."""
        mean, *ends = numbers(cell)
        known = [self.bleu(test, self.model) - self.bleu(test, other)]
        if self.summary is not None:
            rows = self.summary
            (row,) = rows[(rows.test == test) & (rows.model == self.model)].to_dict("records")
            known += [row[f"bleu_vs_{other}_{end}"] for end in ("low", "high")]
        assert [mean, *ends][: len(known)] == pytest.approx(known, abs=0.0501), cell

    def bleu(self, test: str, model: str) -> float:
        """Return a model's mean over the seeds."""
        return self.of(test, model).bleu.mean()

    def of(self, test: str, model: str) -> pd.DataFrame:
        """Return a model's rows on a test set."""
        rows = self.seeds[(self.seeds.test == test) & (self.seeds.model == model)]
        assert len(rows), (test, model)
        return rows


def test_all_texts_side_by_side():
    """Differences and the share of the gap, text by text."""
    (table,) = [t for t in tables(FOLDER / "five-texts.md") if t[0][:2] == ["", "the demo"]]
    for label, *cells in table[1:]:
        for column, cell in zip(table[0][1:], cells, strict=True):
            text, test = TEXTS[column]
            if label == "KA − KD":
                model, kind = "ka", "vs KD"
            else:
                name, _, share = label.partition(", share")
                model, kind = MODELS[name], "gap recovered" if share else "vs control"
            if cell:
                csv = OTHER_RUNS.get((text, model), text)
                assert Scores(csv, model).check(test, kind, cell)


def test_length():
    """Length ratios, and differences of BLEU without the brevity penalty."""
    (table,) = [t for t in tables(FOLDER / "five-texts.md") if t[0][0] == "text"]
    for title, *cells in table[1:]:
        text, file = re.fullmatch(r"\[(.*)\]\((.*)\)", title).groups()
        scores = pd.read_csv(FOLDER / file)
        if named := re.search(r"test_\d+", text):
            scores = scores[scores.test == f"{named[0]}_flickr"]
        penalty = np.exp(1 - 1 / scores.length_ratio).clip(upper=1)
        means = scores.assign(long=scores.bleu / penalty).groupby("model").mean(numeric_only=True)
        ratio, bleu = means.length_ratio, means.long
        known = [ratio[m] for m in ("control", "kd", "ka")]
        known += [bleu.kd - bleu.control, bleu.ka - bleu.control, bleu.ka - bleu.kd]
        for cell, value in zip(cells, known, strict=True):
            assert_close(cell, [value])


@pytest.mark.parametrize(
    ("page", "name", "test"),
    [
        ("results.md", "demo-full", "test"),
        ("results/multi30k-layers.md", "multi30k-layers", "test_2016_flickr"),
    ],
)
def test_operating_points(page, name, test):
    """Quality and speed of each model with each beam."""
    points = pd.read_csv(FOLDER / f"{name}-points.csv")
    means = points[points.test == test].groupby(["model", "beam", "metric"]).value.mean()
    (table,) = [t for t in tables(DOCS / page) if "sentences/s" in t[0]]
    slowest = means["teacher", 6, "one_thread.sentences_per_second"]
    for row in table[1:]:
        cells = dict(zip(table[0], row, strict=True))
        point = means[MODELS[cells["model"]], int(cells["beam"])]
        assert_close(cells["BLEU"], [point["bleu"]])
        assert_close(cells["sentences/s"], [point["one_thread.sentences_per_second"]])
        assert_close(cells["÷ teacher"], [point["one_thread.sentences_per_second"] / slowest])


@pytest.mark.parametrize(
    ("place", "name"), enumerate(["multi30k-layers-longer", "multi30k-layers-two-sizes"])
)
def test_two_test_sets_side_by_side(place, name):
    """BLEU of exported models on both of Multi30k's test sets, by a run's CSV."""
    points = pd.read_csv(FOLDER / f"{name}-points.csv").fillna({"size": ""})
    keys = ["test", "model", "size", "beam"]
    means = points[points.metric == "bleu"].groupby(keys).value.mean()
    found = [t for t in tables(FOLDER / "multi30k-layers.md") if "test_2016" in t[0]]
    header, *rows = found[place]
    for model, beam, *cells in rows:
        model, _, layers = model.partition(", 4 + 2")
        size = "layers_4_2" if layers else ""
        for test, cell in zip(header[2:], cells, strict=True):
            assert_close(cell, [means[f"{test}_flickr", MODELS[model], size, int(beam)]])


PARTS = {
    "the references": ("control", "kd", "ka"),
    "the teacher's text": ("seq_inter", "seq_inter_kd", "seq_inter_ka"),
}


@pytest.mark.parametrize("page", ["docs/results/demo-full.md", "README.md"])
def test_each_text_with_each_loss(page):
    """BLEU, and the difference to the control with its interval."""
    (table,) = [t for t in tables(ROOT / page) if t[0][0] == "trained on"]
    for text, *cells in table[1:]:
        for model, cell in zip(PARTS[text], cells, strict=True):
            bleu, *difference = cell.split(": ")
            scores = Scores("demo-full", model)
            assert scores.check("test", "BLEU", bleu)
            assert model == "control" or scores.check("test", "vs control", *difference)


def test_each_text_with_each_loss_at_two_beams():
    """The exported models' BLEU."""
    points = pd.read_csv(FOLDER / "demo-full-points.csv")
    means = points[points.metric == "bleu"].groupby(["model", "beam"]).value.mean()
    (table,) = [t for t in tables(FOLDER / "demo-full.md") if t[0][0].startswith("trained on,")]
    for text, *cells in table[1:]:
        for model, cell in zip(PARTS[text], cells, strict=True):
            for beam, bleu in zip((6, 1), cell.split(", "), strict=True):
                assert_close(bleu, [means[model, beam]])


@pytest.mark.parametrize("page", ["docs/results.md", "README.md"])
def test_the_pooled_sentences(page):
    """What a page says of all texts together, with two decimals, stands in the pooled CSVs."""
    files = [FOLDER / f"{name}.csv" for name in ("pooled", "pooled-ka-kd")]
    pooled = pd.concat([pd.read_csv(file)[["mean", "low", "high"]] for file in files])
    known = set(pooled.round(2).itertuples(index=False, name=None)) | OF_A_TRIAL
    text = (ROOT / page).read_text("utf-8").replace("−", "-")
    said = {tuple(map(float, found)) for found in re.findall(POOLED, text)}
    assert said
    assert said <= known
