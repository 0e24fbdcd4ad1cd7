"""COMET as an option of a comparison, by a stand-in for comet-score."""

from __future__ import annotations

import re
import statistics
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pipeline import compare
from pipeline.comparison import Grid
from pipeline.engine import files, state
from pipeline.engine.errors import PipelineError
from pipeline.results import comet, comparison_report, evaluate, report
from pipeline.results.evaluation_sets import MAIN
from pipeline.results.hierarchical import Differences
from scipy import stats

from tests.pipeline import own_configs, scored
from tests.pipeline.scored import GOOD, NEWS, ROWS
from tests.pipeline.shown import table

MODEL = "Unbabel/wmt22-comet-da"


def shares(pair, training, which=MAIN):
    """By hand: of the reference's letters, those that the translation has as well."""
    texts = evaluate.hypotheses(pair, training, which), evaluate.references(pair, which)
    found = []
    for translation, reference in zip(*texts, strict=True):
        left = list(translation)
        for letter in reference:
            if letter in left:
                left.remove(letter)
        found.append((len(translation) - len(left)) / len(reference))
    return found


@pytest.fixture
def found(pair, comet_score):
    """A comparison with COMET of two methods, two seeds and two test sets, that is scored by it."""
    pair = own_configs.from_a_learner(pair)
    comparison = scored.compared(pair)
    # Other words, not only another order of them.
    for seed in (1, 2):
        path = MAIN.hypotheses(pair, f"compare/{seed}/kd-rate0.002")
        lines = [line.split()[: 2 + seed + n % 3] for n, line in enumerate(files.read_lines(path))]
        files.write_lines(path, map(" ".join, lines))
    files.write_lines(NEWS.source(pair), evaluate.references(pair, NEWS))
    comparison = replace(comparison, tests=(MAIN, NEWS), comet=MODEL)
    for name in comparison.shown:
        for training in comparison.trainings(name):
            for which in comparison.tests:
                comet.stage(pair, training.name, which, MODEL).execute(pair.files)
    return comparison


def test_scores_intervals_and_tables(found):
    comparison_report.build(found)
    pair, folder = found.pair, found.pair.files.run_dir / "compare"
    content = files.read_json(folder / "compare.json")
    for which, test in zip(found.tests, content["tests"], strict=True):
        rows = {row["model"]: row for row in test["rows"]}
        trained = {name: [t.name for t in found.trainings(name)] for name in rows}
        means = {
            name: [100 * statistics.fmean(shares(pair, training, which)) for training in trainings]
            for name, trainings in trained.items()
        }
        for name, by_seed in means.items():
            assert rows[name]["comet"]["by_seed"] == pytest.approx(by_seed)
            assert rows[name]["comet"]["mean"] == pytest.approx(statistics.fmean(by_seed))
        versus = rows["kd"]["differences"]["control"]["comet"]
        by_seed = [a - b for a, b in zip(means["kd"], means["control"], strict=True)]
        assert versus["by_seed"] == pytest.approx(by_seed)
        assert test["signatures"]["COMET"] == f"{MODEL}, × 100"
    row = content["tests"][0]["rows"][-1]
    mean, versus = row["comet"], row["differences"]["control"]["comet"]
    assert mean["mean"] < 80 and versus["low"] < versus["mean"] < versus["high"]

    text = (folder / "compare.md").read_text(encoding="utf-8")
    shown = f"{mean['mean']:.1f} ± {mean['sd']:.1f}"
    assert table(text, "COMET")["KD (forward KL)"]["COMET"] == shown
    shown = f"{versus['mean']:+.1f} [{versus['low']:.1f}, {versus['high']:.1f}]"
    assert table(text, "COMET vs control")["KD (forward KL)"]["COMET vs control"] == shown
    assert f"COMET: by comet-score with {MODEL}, × 100." in text
    report.build(pair)
    assert "COMET on test (40 sentences)" in (pair.files.run_dir / "report.html").read_text("utf-8")
    scores = pd.read_csv(folder / "scores.csv")
    kd = scores[(scores.model == "kd") & (scores.test == "test")]
    assert list(kd.comet) == pytest.approx(mean["by_seed"])
    means = pd.read_csv(folder / "compare.csv").set_index(["test", "model"])
    assert means.loc[("test", "kd"), "comet_vs_control_high"] == pytest.approx(versus["high"])


def test_an_interval_is_that_of_means_over_drawn_sentences(found):
    """Set against scipy's paired bootstrap of the segments, where the seeds are left out."""
    pair, generator = found.pair, np.random.default_rng(5)
    names = ("kd", "control")
    trained = {name: [t.name for t in found.trainings(name)] for name in names}
    counts = {name: [comet.counts(pair, t, MAIN) for t in ts] for name, ts in trained.items()}
    interval = Differences(counts, comet.of_sums).interval(*names, seeds=False)
    segments = {name: np.mean([shares(pair, t) for t in trained[name]], axis=0) for name in names}
    difference = 100 * (segments["kd"] - segments["control"])
    expected = stats.bootstrap(
        (difference,), np.mean, n_resamples=4000, method="percentile", random_state=generator
    ).confidence_interval
    assert interval.low == pytest.approx(expected.low, abs=0.1 * interval.width)
    assert interval.high == pytest.approx(expected.high, abs=0.1 * interval.width)


@pytest.fixture
def translated(pair, comet_score):
    """The pair, whose test set a learner has translated."""
    files.write_lines(MAIN.source(pair), GOOD)
    files.write_lines(MAIN.reference(pair), ROWS)
    files.write_lines(MAIN.hypotheses(pair, "learner"), GOOD)
    state.write(pair.files.run_dir, evaluate.name("learner"), state.Record({}, done=True))
    return pair


def test_scores_are_kept_until_the_text_or_the_model_is_another(translated, capsys):
    for model in (MODEL, MODEL, "Unbabel/other"):
        comet.stage(translated, "learner", MAIN, model).execute(translated.files)
    assert capsys.readouterr().out.count("comet.learner: done already") == 1
    assert comet.counts(translated, "learner", MAIN)[:, 0].max() > 0
    files.write_lines(MAIN.hypotheses(translated, "learner"), ["x"] * len(ROWS))
    comet.stage(translated, "learner", MAIN, "Unbabel/other").execute(translated.files)
    assert comet.counts(translated, "learner", MAIN)[:, 0].max() == 0


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("unknown", "KeyError: \"Model 'unknown' not supported by COMET.\""),
        ("forgetful", "comet-score scored 39 of 40 sentences"),
    ],
)
def test_what_comet_score_cannot_do_is_one_line(translated, model, says):
    text = re.escape(f"stage comet.learner failed: {says} (log: ")
    with pytest.raises(PipelineError, match=text):
        comet.stage(translated, "learner", MAIN, model).execute(translated.files)


def test_a_comparison_has_its_stages(pair, comet_score):
    pair = own_configs.from_a_learner(pair)

    for more in ({}, {"tune": Grid((0.001, 0.002))}):
        found = compare.planned(pair, methods=["kd"], seeds=2, comet_model=MODEL, **more)
        stages = {stage.name: stage for stage in found.stages(compare.report)}
        assert not {need for stage in stages.values() for need in stage.needs} - stages.keys()
        assert stages["comet.teacher"].needs == ("evaluate.teacher",)
        assert {"comet.teacher", "comet.compare/2/learner"} <= {*stages["compare"].after}
        assert ("comet.compare/2/kd" in stages) == (not more)


def test_without_comet_score_it_says_so_before_any_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compare.main(["demo", "--comet", MODEL, "--runs", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: --comet needs comet-score: install unbabel-comet")
    assert error.count("\n") == 1 and not any(tmp_path.iterdir())


def test_a_checkpoint_has_to_be_there_with_its_settings(tmp_path, comet_score):
    checkpoint = tmp_path / "model" / "checkpoints" / "model.ckpt"
    with pytest.raises(PipelineError, match=r"model\.ckpt: there is no such file"):
        comet.check(str(checkpoint))
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    with pytest.raises(PipelineError, match=r"there is no hparams\.yaml"):
        comet.check(str(checkpoint))
    (tmp_path / "model" / "hparams.yaml").touch()
    comet.check(str(checkpoint))
