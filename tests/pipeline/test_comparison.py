"""What a comparison takes and what it makes of it, without a training; `finished` has one."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace

import pandas as pd
import pytest
from lxml import html
from pipeline import compare, stages
from pipeline.__main__ import main as pipeline_main
from pipeline.comparison import Grid
from pipeline.engine import schedule, state
from pipeline.engine.devices import WHOLE
from pipeline.models import settings
from pipeline.models.grid import Point
from pipeline.models.model_list import Model
from pipeline.results import (
    comparison_report,
    evaluate,
    page,
    report,
    score_tables,
)
from pipeline.results.evaluation_sets import MAIN

from tests.pipeline import own_configs, scored
from tests.pipeline.scored import GOOD, NEWS
from tests.pipeline.shown import assert_fits, table
from tests.support import ROOT

METHODS = ("control", "kd", "ka", "mixture", "topk", "seq_inter")
FROM_NOTHING = ("learner", "seq_inter")


@pytest.fixture
def demo(tmp_path):
    """The demo as it is: its students begin with the teacher's layers."""
    return settings.load(settings.CONFIGS / "demo", tmp_path / "of the demo")


@pytest.fixture(name="pair")
def with_a_learner(pair):
    """A pair whose methods go on from a learner, as those of all but the demo."""
    return own_configs.from_a_learner(pair)


def plan(pair, *methods, **more):
    return compare.planned(pair, methods=methods or None, **{"seeds": 2, **more})


def trainings(found, name):
    """All of a method's, by name."""
    return {training.name: training for training in found.all_trainings(name)}


def test_the_first_seed_is_the_pairs_own(pair):
    found = plan(pair, seeds=3)
    assert found.seeds == [1, 2, 3]
    assert found.shown == ["teacher", "learner", *METHODS]
    assert trainings(found, "teacher").keys() == {"teacher"}
    assert list(trainings(found, "ka")) == ["ka", "compare/2/ka", "compare/3/ka"]
    assert trainings(found, "ka")["ka"] in stages.trainings(pair)


def test_a_learner_that_nothing_goes_on_from_is_left_out(demo):
    assert plan(demo, "control", "kd").shown == ["teacher", "control", "kd"]
    assert plan(demo, "kd_both").shown == ["teacher", "learner", "kd_junior", "kd_both"]


def test_a_seed_covers_the_learner_and_what_starts_from_it(pair):
    found = plan(pair)
    for name in ("learner", *METHODS):
        own, other = trainings(found, name).values()
        assert own.start == (None if name in FROM_NOTHING else "learner")
        assert other.start == (None if name in FROM_NOTHING else "compare/2/learner")
        assert other.teacher == own.teacher
        ours, theirs = (training.inputs(pair, WHOLE) for training in (own, other))
        assert (ours["common.seed"], theirs["common.seed"]) == (1, 2)
        seeded = ("common.seed", "checkpoint.no_epoch_checkpoints", "checkpoint.finetune", "from ")
        assert {k: v for k, v in ours.items() if not k.startswith(seeded)} == {
            k: v for k, v in theirs.items() if not k.startswith(seeded)
        }


def test_seeds_from_the_fine_tuning_share_a_learner(pair):
    found = plan(pair, "kd", seeds_from="finetune")
    assert trainings(found, "learner").keys() == {"learner"}
    assert list(trainings(found, "kd")) == ["kd", "compare/finetune/2/kd"]
    assert {training.start for training in trainings(found, "kd").values()} == {"learner"}
    # Not the same as with a learner for each seed.
    assert not trainings(found, "kd").keys() & trainings(plan(pair, "kd"), "kd").keys() - {"kd"}


def test_the_grid_is_the_same_for_each_method_as_far_as_it_has_the_setting(pair):
    found = plan(pair, "control", "kd", "topk", tune=Grid((0.001, 0.002), (0.5, 0.9), (4, 8)))
    assert {name: len(points) for name, points in found.points.items()} == {
        "control": 2,
        "kd": 4,
        "topk": 8,
    }
    tried = trainings(found, "topk")
    assert len(tried) == 16
    training = tried["compare/2/topk-rate0.002-weight0.9-k4"]
    assert training.settings == {
        "checkpoint.no_epoch_checkpoints": True,
        "optimization.lr": [0.002],
        "criterion.transfer_weight": 0.9,
        "criterion.top_k": 4,
        "common.seed": 2,
    }
    # The learner is not tuned: all start from the same.
    assert training.start == "compare/2/learner"
    assert tried["compare/1/topk-rate0.001-weight0.5-k4"].start == "learner"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"tune": Grid((0.001, 0.002))},
        {"seeds_from": "finetune", "tests": ["test", "news"]},
        {"tests": ["news"], "methods": ["kd"]},
    ],
)
def test_every_stage_is_named_once_and_has_what_it_needs(pair, monkeypatch, more):
    monkeypatch.setattr(compare.prepare, "test_inputs", lambda pair, name: {})
    found = plan(pair, *more.pop("methods", ()), **more).stages(compare.report)
    names = [stage.name for stage in found]
    assert len(set(names)) == len(names)
    assert not {need for stage in found for need in stage.needs} - set(names)
    assert names.index("compare") == len(names) - ("report" in names) - 1


def test_a_method_that_starts_from_another_is_trained_after_it(pair):
    """Whose settings are those of its config, however it is tuned itself."""
    models = [vars(model) for model in pair.models]
    after = {**models[-1], "name": "after", "title": "after", "start": "kd"}
    pair = replace(pair, models=(*pair.models, Model(**after)))
    found = plan(pair, "kd", "after", tune=Grid((0.001, 0.002)))
    tried = trainings(found, "after")
    assert {training.start for training in tried.values()} == {"kd", "compare/2/kd"}
    names = {stage.name for stage in found.stages(compare.report)}
    assert {"kd", "compare/2/kd", "compare/2/kd-rate0.001"} <= names


def test_the_pipelines_seeds_are_a_comparison_of_all_methods(demo, monkeypatch):
    ran = []
    monkeypatch.setattr(schedule, "run", lambda pair, stages, *_, **__: ran.extend(stages))
    assert pipeline_main(["demo", "--seeds", "2", "--runs", str(demo.files.run_dir.parent)]) == 0
    names = [stage.name for stage in ran]
    own = stages.named(demo, [])
    assert own <= set(names) and len(set(names)) == len(names)
    methods = {model.name for model in demo.default_models} - {"teacher"}
    assert len(methods) > 4 and {f"evaluate.compare/2/{name}" for name in methods} <= set(names)
    (last,) = (stage for stage in ran if stage.name == "report")
    assert {"compare", "evaluate.ka"} <= set(last.after)


def test_seeds_go_with_all_stages(tmp_path, capsys):
    assert pipeline_main(["demo", "kd", "--seeds", "3", "--runs", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: --seeds runs all stages: leave the stage names out\n"
    assert "--seeds 3" in (ROOT / "scripts" / "demo.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["klingon"], "unknown pair klingon"),
        ([], "which pair? One of: demo"),
        (["demo", "--methods", "kd", "bad"], "choose from control, kd, ka, mixture, topk"),
        (["demo", "--methods", "kd", "teacher"], "teacher is no method of demo"),
        (["demo", "--methods", "kd", "kd"], "the method kd is named twice"),
        (["demo", "--tune", "lr=0"], "--tune lr=0: 0: a learning rate is above 0"),
        (["demo", "--tune", "weight=0.5;beta=3"], "--tune beta=3: give lr=… or weight=… or k=…"),
        (["demo", "--tune", "0.001"], "--tune 0.001: give lr=…"),
        (["demo", "--methods", "kd", "--against", "ka"], "of the tables, teacher, kd"),
        (["demo", "--test", "news"], "demo has no test set news: choose from test"),
        (["demo", "--test", "../x"], "--test: ../x is no name for a test set"),
        (["wmt17_de_en", "--test", "x"], "wmt17_de_en has no test set x: choose from test"),
        (["demo", "--data", "x"], "demo is a pair, and --data another text"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, words, says):
    assert compare.main([*words, "--runs", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and says in error and error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_tune_is_read_from_one_word_or_several():
    grid = compare.grid_of(["lr=1e-4,3e-4;weight=0.5", "k=8,V,8"])
    assert grid == compare.grid_of(["lr=0.0001,0.0003", "weight=0.5; k=8,V"])
    assert grid == Grid((1e-4, 3e-4), (0.5,), (8, 0))


@pytest.fixture
def compared(pair):
    return scored.compared(pair), pair


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A comparison, and what ``compare.json`` holds; its tests leave it as it is."""
    runs = tmp_path_factory.mktemp("compared") / "Läufe hier"
    pair = own_configs.from_a_learner(settings.load(ROOT / "configs" / "demo", runs))
    found = scored.compared(pair)
    found = replace(found, tests=(MAIN, NEWS))
    return found, scored.built(found)


def test_chosen_on_validation_by_the_mean_over_seeds(built):
    found, _ = built
    models = {model.name: model for model in found.pair.models}
    assert found.choose("control") == Point(models["control"], rate=0.001)
    assert found.choose("kd") == Point(models["kd"], rate=0.002)
    names = [training.name for training in found.trainings("kd")]
    assert names == ["compare/1/kd-rate0.002", "compare/2/kd-rate0.002"]


def test_a_row_has_the_numbers_of_its_seeds(built):
    found, content = built
    assert [test["name"] for test in content["tests"]] == ["test", "news"]
    assert [test["sentences"] for test in content["tests"]] == [40, 20]
    for which, test in zip(found.tests, content["tests"], strict=True):
        rows = {row["model"]: row for row in test["rows"]}
        assert list(rows) == ["teacher", "learner", "control", "kd"]
        chosen = {"control": "0.001", "kd": "0.002"}
        bleu = {
            name: [
                evaluate.scores(found.pair, f"compare/{seed}/{name}-rate{rate}", which)["bleu"]
                for seed in (1, 2)
            ]
            for name, rate in chosen.items()
        }
        for name, values in bleu.items():
            assert rows[name]["bleu"]["by_seed"] == values
            assert rows[name]["bleu"]["mean"] == pytest.approx(sum(values) / 2)
            deviation = abs(values[0] - values[1]) / 2**0.5
            assert rows[name]["bleu"]["sd"] == pytest.approx(deviation)
        versus = rows["kd"]["differences"]["control"]["bleu"]
        by_seed = [kd - control for kd, control in zip(bleu["kd"], bleu["control"], strict=True)]
        assert versus["by_seed"] == pytest.approx(by_seed)
        assert versus["mean"] == pytest.approx(statistics.fmean(by_seed))
        assert versus["low"] < versus["mean"] < versus["high"]
        assert len(rows["kd"]["differences"]["control"]["p_values"]) == 2
        learner, kd, teacher = (rows[n]["bleu"]["mean"] for n in ("learner", "kd", "teacher"))
        share = rows["kd"]["gap_recovered"]["bleu"]
        assert share == pytest.approx((kd - learner) / (teacher - learner))
        assert rows["kd"]["length_ratio"]["mean"] == pytest.approx(1)
        assert rows["teacher"]["bleu"] == {
            "mean": pytest.approx(100),
            "sd": None,
            "by_seed": [pytest.approx(100)],
        }
    kd = content["models"][-1]
    assert kd["chosen"]["rate"] == 0.002 and kd["chosen"]["valid_bleu"] == [31, 32]
    assert [tried["rate"] for tried in kd["tried"]] == [0.001, 0.002]
    assert kd["train_minutes"] == [2, 2]


def test_the_markdown_says_what_was_chosen_and_what_the_numbers_mean(built):
    found, content = built
    text = (found.pair.files.run_dir / "compare" / "compare.md").read_text(encoding="utf-8")
    scores = table(text, "gap recovered")
    row = content["tests"][0]["rows"][-1]
    kd = scores["KD (forward KL)"]
    assert kd["BLEU"] == f"{row['bleu']['mean']:.1f} ± {row['bleu']['sd']:.1f}"
    versus = row["differences"]["control"]["bleu"]
    assert kd["vs control"] == (
        f"{versus['mean']:+.1f} [{versus['low']:.1f}, {versus['high']:.1f}]"
    )
    assert kd["vs KD"] == "–"
    chosen = table(text, "settings tried")
    assert chosen["KD (forward KL)"]["chosen"] == "lr 0.002"
    assert chosen["KD (forward KL)"]["BLEU, validation"] == "31.5 ± 0.7"
    assert chosen["teacher"]["chosen"] == "–"
    assert "bootstrap over both; the spread over 2 seeds is widened 9.2 times" in text
    assert "## news (20 sentences)" in text and "Seeds 1 to 2" in text
    assert "nrefs:1|case:mixed" in text


def test_warnings_stand_in_these_tables_too(compared):
    found, pair = compared
    scored.add_compared(pair, "compare/1/kd-rate0.002", [10, 20, 31], GOOD)
    scored.add_compared(pair, "compare/2/kd-rate0.002", [12, 21, 32], GOOD)
    found = replace(found, tests=(MAIN, NEWS))
    warnings = comparison_report.collect(found)["warnings"]
    kinds = [warning["kind"] for warning in warnings]
    assert kinds.count("still rising") == 1  # the same for both test sets
    (rising,) = (warning for warning in warnings if warning["kind"] == "still rising")
    assert rising["values"].keys() == {"kd"}  # of the mean over seeds: 11, 20.5, 31.5
    assert rising["values"]["kd"]["per_epoch"] == pytest.approx(10.25)
    (edge,) = (warning for warning in warnings if warning["kind"] == "edge of the grid")
    assert edge["values"] == {"control": ["rate"], "kd": ["rate"]}
    small = [w["text"] for w in warnings if w["kind"] == "small test set"]
    assert all(text.startswith(("test: ", "news: ")) for text in small)
    one = replace(found, count=1)
    assert "one seed" in [warning["kind"] for warning in comparison_report.collect(one)["warnings"]]


def test_every_number_is_in_a_csv(built):
    found, content = built
    folder = found.pair.files.run_dir / "compare"
    scores = pd.read_csv(folder / "scores.csv")
    assert len(scores) == 2 * (1 + 3 * 2)
    kd = scores[(scores.model == "kd") & (scores.test == "news")]
    assert list(kd.bleu) == pytest.approx(content["tests"][1]["rows"][-1]["bleu"]["by_seed"])
    assert list(kd.seed) == [1, 2] and kd.p_vs_control.notna().all()
    tuning = pd.read_csv(folder / "tuning.csv")
    assert len(tuning) == 2 * 2 * 2
    assert set(tuning[tuning.chosen].rate[tuning.model == "kd"]) == {0.002}
    means = pd.read_csv(folder / "compare.csv").set_index(["test", "model"])
    versus = content["tests"][0]["rows"][-1]["differences"]["control"]["bleu"]
    assert means.loc[("test", "kd"), "bleu_vs_control_low"] == pytest.approx(versus["low"])
    assert (folder / "differences.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_page_has_a_section(built):
    found, content = built
    report.build(found.pair)
    text = (found.pair.files.run_dir / "report.html").read_text(encoding="utf-8")
    document = html.fromstring(text)
    heads = [head.text_content() for head in document.findall(".//h2")]
    assert "Methods compared, over 2 seeds" in heads
    titles = [head.text_content() for head in document.findall(".//h3")]
    assert "test (40 sentences)" in titles and "news (20 sentences)" in titles
    assert "Each method's difference to control (NLL), with" in html.tostring(
        document, encoding="unicode"
    )
    for warning in content["warnings"]:
        assert warning["text"] in document.text_content()


def test_the_widest_tables_of_a_comparison_fit(built):
    """Of five seeds, with everything tuned."""
    found, content = built
    report.build(found.pair)
    document = html.parse(found.pair.files.run_dir / "report.html").getroot()
    names = found.pair.titles
    content = scored.widest(content, names)
    test = content["tests"][0]
    assert_fits(document, score_tables.scores(content, test, names))
    assert_fits(document, score_tables.details(content, test, names))
    assert_fits(document, score_tables.comet_scores(content, test, names))
    assert_fits(document, score_tables.trainings(content, names))
    assert_fits(document, score_tables.model_sizes(content, names))


def test_what_was_made_anew_since_is_not_shown(built):
    found, _ = built
    pair = found.pair
    assert page.comparison_of(pair) is not None
    name = "compare/1/kd-rate0.002"
    record = state.read(pair.files.run_dir, name)
    state.write(pair.files.run_dir, name, state.Record({"t": "other"}, done=True))
    assert page.comparison_of(pair) is None
    state.write(pair.files.run_dir, name, record)
    assert page.comparison_of(pair) is not None


def markdown(pair):
    return (pair.files.run_dir / "compare" / "compare.md").read_text(encoding="utf-8")


def test_without_a_baseline_there_is_no_plot(compared):
    found, pair = compared
    comparison_report.build(found)
    assert (pair.files.run_dir / "compare" / "differences.png").exists()
    found = compare.planned(pair, methods=["ka"], seeds=1)
    scored.add_compared(pair, "ka", [30] * 4, GOOD)
    comparison_report.build(found)
    assert "vs control" not in markdown(pair) and "differences.png" not in markdown(pair)
    assert not (pair.files.run_dir / "compare" / "differences.png").exists()
    assert page.comparison_of(pair)["figure"] is None


def test_differences_are_taken_to_the_models_that_are_named(compared):
    found, pair = compared
    compared_to = compare.baselines_of(found, ["learner", "teacher", "learner"])
    comparison_report.build(replace(found, against=compared_to))
    rows = table(markdown(pair), "gap recovered")
    assert [head for head in rows["learner"] if head.startswith("vs ")] == [
        "vs learner",
        "vs teacher",
    ]
    assert rows["learner"]["vs learner"] == rows["teacher"]["vs teacher"] == "–"
    assert "vs learner: difference in BLEU to learner, paired by seed." in markdown(pair)
    content = json.loads((pair.files.run_dir / "compare" / "compare.json").read_text("utf-8"))
    by_model = {row["model"]: row for row in content["tests"][0]["rows"]}
    for model, other in (("kd", "learner"), ("control", "teacher"), ("teacher", "learner")):
        ours, theirs = (by_model[name]["bleu"] for name in (model, other))
        versus = by_model[model]["differences"][other]
        assert versus["bleu"]["mean"] == pytest.approx(ours["mean"] - theirs["mean"])
        assert len(versus["p_values"]) == 2
    assert page.comparison_of(pair)["baseline"] == "learner"
