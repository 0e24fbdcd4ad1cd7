"""Sizes of students: what is trained at each, and what is refused before anything is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pipeline import compare
from pipeline.engine import files
from pipeline.engine.devices import WHOLE
from pipeline.engine.errors import PipelineError
from pipeline.models import settings, students, translators
from pipeline.results import compared, score_tables

from tests.pipeline import own_configs


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's settings, whose students begin with the teacher's layers; nothing is written."""
    return settings.load(settings.CONFIGS / "demo", tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def pair(demo):
    """The same with students that go on from a learner, as those of other pairs."""
    return own_configs.from_a_learner(demo)


def plan(pair, *methods, sizes=("own", "small"), **more):
    return compare.planned(pair, methods=methods or None, sizes=sizes, **{"seeds": 2, **more})


def by_size(found, name):
    return [[training.name for training in one.trainings(name)] for one in found.sizes]


def test_each_method_is_trained_at_each_size_and_the_teacher_is_not(pair):
    found = plan(pair, "control", "kd")
    assert by_size(found, "teacher") == [["teacher"], ["teacher"]]
    assert by_size(found, "kd") == [
        ["kd", "compare/2/kd"],
        ["compare/small/1/kd", "compare/small/2/kd"],
    ]
    own, small = (one.trainings("kd")[1] for one in found.sizes)
    assert (own.start, small.start) == ("compare/2/learner", "compare/small/2/learner")
    assert own.teacher == small.teacher == "teacher"
    preset = students.settings("small", pair.files.config_dir, start=True)
    changed = {
        k: v for k, v in small.inputs(pair, WHOLE).items() if own.inputs(pair, WHOLE).get(k) != v
    }
    not_of_a_size = ("from ", "checkpoint.finetune")
    assert {k: v for k, v in preset.items() if own.inputs(pair, WHOLE)[k] != v} == {
        k: v for k, v in changed.items() if not k.startswith(not_of_a_size)
    }


def test_a_rate_of_a_preset_is_for_trainings_from_nothing(pair):
    found = plan(pair, "kd", sizes=["medium"])
    (learner, _), (kd, _) = (found.trainings(name) for name in ("learner", "kd"))
    assert learner.resolved(pair)["optimization.lr"] == [0.005]
    assert kd.resolved(pair)["optimization.lr"] != [0.005]
    tuned = plan(pair, "kd", sizes=["medium"], tune=compare.Grid(rates=(0.001, 0.002)))
    assert [t.resolved(pair)["optimization.lr"] for t in tuned.made[-4:]] == [
        *([0.001], [0.001], [0.002], [0.002])
    ]


def test_a_shared_learner_is_there_once_for_each_size(pair):
    found = plan(pair, "kd", seeds_from="finetune")
    assert by_size(found, "learner") == [["learner"], ["compare/small/1/learner"]]
    starts = {t.start for one in found.sizes for t in one.trainings("kd")}
    assert starts == {"learner", "compare/small/1/learner"}


@pytest.mark.parametrize("sizes", [["own", "small"], ["small"]])
def test_every_stage_is_named_once_and_comes_with_what_it_needs(pair, sizes):
    found = plan(pair, "control", "seq_inter", sizes=sizes).stages(compare.report)
    names = [stage.name for stage in found]
    assert len(set(names)) == len(names)
    assert not {need for stage in found for need in stage.needs} - set(names)
    assert {"text.closest", "export.compare/small/2/seq_inter", "compare/speed"} <= set(names)
    assert ("control" in names) == ("own" in sizes)  # else nothing of the pair's own size is made


def test_operating_points_know_their_size_and_seed(pair):
    found = {name: keys for keys, name in compared.trainings(plan(pair, "kd"))}
    assert found["teacher"] == {"model": "teacher", "size": "", "seed": None}
    assert found["compare/2/kd"] == {"model": "kd", "size": "", "seed": 2}
    assert found["compare/small/1/kd"] == {"model": "kd", "size": "small", "seed": 1}
    assert len(found) == 1 + 2 * 2 * 2


def test_each_shape_is_timed_once(pair, monkeypatch):
    monkeypatch.setattr(translators, "exported", lambda pair, models: list(models))
    found = plan(pair, "kd")
    assert len(found.exported) == 1 + 2 * 2 * 2
    small = [f"compare/small/1/{name}" for name in ("learner", "kd")]
    assert found.timed == ["teacher", "learner", "kd", *small]


def test_the_pairs_own_list_is_what_is_taken_without_an_option(pair):
    assert plan(pair, "kd", sizes=[]).students == (students.OWN,)
    listed = replace(pair, students=("small", "large"))
    assert plan(listed, "kd", sizes=[]).students == ("small", "large")
    assert plan(listed, "kd", sizes=["medium"]).students == ("medium",)


def test_the_ladder_has_a_deep_encoder_and_one_decoder_layer(pair):
    ladder = [
        students.settings(name, pair.files.config_dir) for name in ("small", "medium", "large")
    ]
    widths = [preset["model.encoder_embed_dim"] for preset in ladder]
    assert widths == sorted(set(widths)) == [64, 128, 192]
    for preset in ladder:
        assert preset["model.decoder_layers"] == 1 < preset["model.encoder_layers"]
        assert 0 <= preset["model.dropout"] <= 0.1


@pytest.mark.parametrize(
    ("methods", "sizes", "says"),
    [
        (["kd"], ["huge"], r"--students: there is no huge: choose from own, large, layers_1_1,"),
        (["kd_both"], ["small"], r"kd_junior, which kd_both goes on from, has a size of its own"),
        (["wide"], ["small"], r"wide has a size of its own \(model.encoder_layers in its"),
        (["tuned"], ["small"], "tuned goes on from teacher, which keeps its size: leave tuned out"),
    ],
)
def test_what_cannot_be_trained_at_a_size_is_refused(pair, methods, sizes, says):
    models = {model.name: model for model in pair.models}
    added = replace(models["control"], name="tuned", start="teacher")
    # As an entry of a size of its own would be: what kd_both goes on from.
    fixed = replace(models["kd_junior"], settings={"model.encoder_layers": 2})
    wide = replace(models["seq_kd"], name="wide", settings=fixed.settings)
    kept = [fixed if model.name == "kd_junior" else model for model in pair.models]
    others = (*kept, added, wide)
    with pytest.raises(PipelineError, match=says) as error:
        plan(replace(pair, models=others), *methods, sizes=sizes)
    assert "\n" not in str(error.value)
    plan(replace(pair, models=others), *methods, sizes=["own"])  # at its own size it can be


def test_a_preset_that_shares_what_the_teacher_does_not_is_refused(pair, tmp_path):
    for language in pair.languages:
        files.write_text(tmp_path / f"dict.{language}.txt", language)
    dictionaries = {language: tmp_path / f"dict.{language}.txt" for language in pair.languages}
    apart = replace(pair, teacher=replace(pair.teacher, dictionaries=dictionaries))
    with pytest.raises(
        PipelineError, match="--students small does not fit the segmentation: it ha"
    ):
        plan(apart, "kd", sizes=["small"])
    plan(apart, "kd", sizes=["own"])


def shape_of(training, pair):
    """How many layers it has, which it keeps of its start, and how wide they are."""
    found = training.resolved(pair)
    sides = [
        (found[f"model.{side}_layers"], found[f"model.{side}_layers_to_keep"])
        for side in ("encoder", "decoder")
    ]
    return [*sides, found["model.encoder_embed_dim"]]


def test_layers_of_a_preset_replace_those_of_each_model_that_has_some(demo):
    found = plan(demo, "control", "seq_inter_mixture", sizes=["own", "layers_2_1"])
    assert by_size(found, "control") == [
        ["control", "compare/2/control"],
        ["compare/layers_2_1/1/control", "compare/layers_2_1/2/control"],
    ]
    # What goes on from such a model goes on from the one of its size, and has its shape.
    for name in ("control", "seq_inter", "seq_inter_mixture"):
        shapes = [shape_of(one.trainings(name)[1], demo) for one in found.sizes]
        assert shapes == [[(1, "0"), (1, "0"), 192], [(2, "0,1"), (1, "0"), 192]]
    starts = [one.trainings("seq_inter_mixture")[1].start for one in found.sizes]
    assert starts == ["compare/2/seq_inter", "compare/layers_2_1/2/seq_inter"]
    assert {t.start for one in found.sizes for t in one.trainings("control")} == {"teacher"}
    names = [stage.name for stage in found.stages(compare.report)]
    assert len(set(names)) == len(names) and "lenpen.compare/layers_2_1/2/control" in names


def test_the_presets_of_layers_fit_the_demo(demo):
    ladder = ["layers_1_1", "layers_2_1", "layers_4_1"]
    found = plan(demo, "kd", sizes=ladder)
    shapes = [shape_of(one.trainings("kd")[0], demo) for one in found.sizes]
    assert [[count for count, _ in shape[:2]] for shape in shapes] == [[1, 1], [2, 1], [4, 1]]


def test_a_learner_from_nothing_keeps_its_size_beside_layers(demo):
    models = [replace(m, default=True) if m.name == "learner" else m for m in demo.models]
    found = plan(replace(demo, models=tuple(models)), "control", sizes=["own", "layers_2_1"])
    assert by_size(found, "learner") == [["learner", "compare/2/learner"]] * 2
    sizes = {name: keys["size"] for keys, name in compared.trainings(found)}
    assert sizes["compare/2/learner"] == "" and sizes["teacher"] == ""
    assert sizes["compare/layers_2_1/1/control"] == "layers_2_1"


@pytest.mark.parametrize(
    ("methods", "preset", "says"),
    [
        (["kd_scratch", "control"], "small", "control begins with another model's layers, so ha"),
        (["control", "seq_inter_mixture"], "tiny", r"a preset of layers \(layers_1_1, layers_2_1,"),
        (["control", "kd_scratch"], "layers_2_1", "kd_scratch takes over no layers"),
        (["seq_mixture"], "layers_1_1", r"name a preset of a shape \(large, medium, small, tiny\)"),
        (
            ["control"],
            "layers_9_1",
            r"layers_9_1: models\.control\.layers\.encoder: 9, but teach",
        ),
        (
            ["fixed"],
            "layers_2_1",
            r"fixed has a size of its own \(model\.encoder_layers in its",
        ),
    ],
)
def test_a_preset_of_the_other_kind_is_refused(demo, monkeypatch, tmp_path, methods, preset, says):
    for path in students.COMMON.glob("*.yaml"):
        files.write_text(tmp_path / path.name, path.read_text("utf-8"))
    files.write_text(tmp_path / "layers_9_1.yaml", "layers: {encoder: 9, decoder: 1}\n")
    monkeypatch.setattr(students, "COMMON", tmp_path)
    kd = next(model for model in demo.models if model.name == "kd")
    fixed = replace(kd, name="fixed", settings={"model.encoder_layers": 2})
    with pytest.raises(PipelineError, match=says) as error:
        plan(replace(demo, models=(*demo.models, fixed)), *methods, sizes=[preset])
    assert str(error.value).startswith("--students") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("preset", "says"),
    [
        ("encoder_embed_dim: 100\nencoder_attention_heads: 8\n", "100 is no multiple of 8 encoder"),
        ("- encoder_layers\n", "should hold fairseq's settings of a model, by name"),
        ("layers: {encoder: 2}\n", "give {encoder: 1, decoder: 1} or the like"),
        ("layers: {encoder: 0, decoder: 1}\n", "encoder: 0 is no number of layers"),
        ("layers: {encoder: 2, decoder: 1}\ndropout: 0.1\n", "stand alone: leave out dropout"),
    ],
)
def test_a_preset_that_is_none_is_refused(pair, tmp_path, preset, says):
    files.write_text(tmp_path / "students" / "odd.yaml", preset)
    with pytest.raises(PipelineError, match=says):
        students.check_names(["odd"], tmp_path, "--students")


def test_tables_of_several_sizes_have_a_column_for_them():
    def content(size, bleu):
        score = {"mean": bleu, "sd": None, "by_seed": [bleu]}
        rows = [
            {"model": model, "bleu": score, "chrf": score, "gap_recovered": None, "differences": {}}
            for model in ("teacher", "kd")
        ]
        models = [
            {"model": "teacher", "trainings": ["teacher"]},
            {"model": "kd", "trainings": [f"compare/{size}/1/kd" if size else "kd"]},
        ]
        test = {"name": "test", "rows": rows}
        return {"size": size, "models": models, "tests": [test], "baselines": [], "seeds": [1]}

    found = {**content("", 30.0), "other_sizes": [content("large", 35.0)]}
    names = {"teacher": "teacher", "kd": "KD"}
    rows = score_tables.scores(found, found["tests"][0], names)
    assert [list(row.values()) for row in rows] == [
        ["teacher", "–", "30.0", "30.0"],
        ["KD", "own", "30.0", "30.0"],
        ["KD", "large", "35.0", "35.0"],
    ]
    assert list(rows[0]) == ["model", "size", "BLEU", "chrF"]
    (alone,) = [score_tables.scores({**found, "other_sizes": []}, found["tests"][0], names)]
    assert "size" not in alone[0]
