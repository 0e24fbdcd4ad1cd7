"""The list of models, and a model that a pair adds to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pipeline import cli, stages
from pipeline.engine import files, state
from pipeline.engine.devices import WHOLE
from pipeline.engine.errors import PipelineError
from pipeline.models import model_list, settings
from pipeline.results import evaluate, plots, report

from ka_fairseq.analysis import plotting
from tests.pipeline import own_configs

COMMON = {
    "teacher": {"colour": "black"},
    "learner": None,
    "kd": {"title": "KD", "start": "learner", "teacher": "teacher", "colour": "blue"},
}
ADDED = {"tail": {"title": "KA, the rest as one", "start": "learner", "teacher": "teacher"}}
CONFIG = """\
# @package _global_
defaults:
  - _self_
  - base
  - finetune
  - model: learner
task:
  _name: translation_with_teacher
  teacher_cache: cache
criterion:
  _name: backward_kl
  transfer_weight: 0.7
  top_k: 8
  top_k_form: tail
"""


def merged(own=None):
    return model_list.merged(COMMON, own, Path("pair.yaml"))


@pytest.fixture
def load(tmp_path):
    """Load a pair of one's own, with what its list of models adds."""
    configs = own_configs.copied("demo", tmp_path / "meine configs")
    (configs / "tail.yaml").write_text(CONFIG, encoding="utf-8")

    def load(own):
        with own_configs.changing(configs) as content:
            content["models"] = own
        return settings.load(configs, tmp_path / "runs")

    return load


def test_what_a_pair_leaves_alone_is_as_for_all():
    assert merged() == merged({}) == merged({"kd": {}})
    found = {model.name: model for model in merged()}
    assert list(found) == ["teacher", "learner", "kd"]
    assert found["kd"].title == "KD" and found["kd"].config == "kd"
    assert found["learner"].title == "learner" and found["learner"].start is None


def test_a_pair_adds_changes_and_leaves_out():
    found = merged({"kd": {"title": "forward KL"}, **ADDED, "tail2": {"config": "tail"}})
    assert [model.name for model in found] == ["teacher", "learner", "kd", "tail", "tail2"]
    assert found[2].title == "forward KL" and found[2].teacher == "teacher"
    assert found[3].title == ADDED["tail"]["title"] and found[3].config == "tail"
    assert [model.name for model in merged({"kd": None})] == ["teacher", "learner"]


def test_colours_that_are_not_named_are_those_that_are_free():
    found = merged({f"m{n}": {} for n in range(8)})
    assert len({model.colour for model in found[3:7]} | {"blue"}) == 5
    assert {model.colour for model in found} <= set(model_list.COLOURS)
    assert all(hasattr(plotting, colour.upper()) for colour in model_list.COLOURS)


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (["kd"], "models is a list of names, each with its fields"),
        (
            {"tail": None},
            r"models\.tail needs fields: choose from title, start, layers, teacher, config",
        ),
        ({"tail": {"titel": "x"}}, r"models\.tail has no field titel: choose from title, start"),
        ({"tail": {"start": "leaner"}}, r"tail\.start: leaner is no earlier model \(teacher, le"),
        ({"kd": {"teacher": "tail"}, **ADDED}, r"kd\.teacher: tail is no earlier model"),
        ({"kd": {"teacher": "teacher+tail"}, **ADDED}, r"kd\.teacher: tail is no earlier model"),
        ({"kd": {"title": "learner"}}, r"models\.kd\.title: learner is the title of another"),
        ({"evaluate": {}}, "choose another name, of letters, digits, - and _"),
        ({"a/b": {}}, "choose another name"),
        ({"tail": {"colour": "red"}}, r"tail\.colour: choose from blue, orange, .*'#rrggbb'"),
        ({"tail": {"settings": [1]}}, "give settings by dotted keys"),
    ],
)
def test_a_mistake_is_one_line(own, says):
    with pytest.raises(PipelineError, match=says) as error:
        merged(own)
    assert str(error.value).startswith("pair.yaml: ") and "\n" not in str(error.value)


def test_one_entry_and_one_file_are_a_training(load):
    pair = load(ADDED)
    table = stages.table(pair)
    assert table["tail"].needs == ("binarize", "learner", "teacher", "cache.teacher")
    assert "evaluate.tail" in table["report"].after
    after = ["lenpen", "evaluate", "export", "speed", "report"]
    assert [*stages.names(pair.models)][-6:] == ["tail", *after]
    assert "export.tail" in table["speed"].after
    inputs = table["tail"].inputs(WHOLE)
    assert (inputs["criterion._name"], inputs["criterion.top_k_form"]) == ("backward_kl", "tail")
    assert inputs["criterion.transfer_weight"] == 0.7 and inputs["task.teacher_cache"]
    assert {"from learner", "from teacher"} <= inputs.keys()


def test_an_ensemble_teaches_where_it_is_named(load):
    entry = {"start": "learner", "teacher": "teacher+kd", "config": "kd", "text": "best"}
    pair = load({"both": entry})
    table = stages.table(pair)
    assert table["translate.teacher+kd"].needs == ("binarize", "teacher", "kd")
    needs = ("binarize", "text.best-of-teacher+kd", "learner", "teacher", "kd")
    assert table["both"].needs == (*needs, "cache.teacher+kd.best-of-teacher+kd")
    (training,) = [training for training in stages.trainings(pair) if training.name == "both"]
    (path,) = [
        word for word in training.arguments(pair, WHOLE) if word.startswith("task.teacher_path=")
    ]
    checkpoints = [str(pair.files.best_checkpoint(name)) for name in ("teacher", "kd")]
    assert ":".join(checkpoints) in path


def test_settings_in_the_list_vary_a_config(load):
    pair = load({"warm": {**ADDED["tail"], "config": "kd", "settings": {"criterion.top_k": 4}}})
    (training,) = [training for training in stages.trainings(pair) if training.name == "warm"]
    assert training.inputs(pair, WHOLE)["criterion.top_k"] == 4
    words = training.arguments(pair, WHOLE)
    assert words[words.index("--config-name") + 1] == "ka"
    assert "criterion._name='forward_kl'" in words
    assert any(word.lstrip("+") == "criterion.top_k=4" for word in words)
    (folder,) = [word for word in words if word.startswith("checkpoint.save_dir=")]
    assert folder.endswith("/warm'")


def add_result(pair, name, translations, references):
    record = '{"epoch": %d, "valid_bleu": "%d", "valid_transfer_loss": "1.5"}'
    files.write_lines(pair.files.log(name), [record % (epoch, 10 * epoch) for epoch in (1, 2, 3)])
    state.write(
        pair.files.run_dir, name, state.Record({"a": 1}, done=True, facts={"parameters": 9})
    )
    files.write_lines(pair.files.evaluate_dir / f"{name}.en", translations)
    facts = evaluate.score(translations, references)
    state.write(pair.files.run_dir, f"evaluate.{name}", state.Record({}, done=True, facts=facts))


def test_a_model_added_by_yaml_alone_is_in_table_plots_and_page(load, monkeypatch):
    pair = load({"tail": {**ADDED["tail"], "colour": "#123abc"}})
    references = [f"This is sentence number {number} of the test" for number in range(12)]
    for language in pair.languages:
        files.write_lines(pair.files.text_dir / f"test.{language}", references)
    facts = {"text": "hand-made", "pairs": {"train": 9, "valid": 8, "test": 12}}
    state.write(pair.files.run_dir, "prepare", state.Record({}, done=True, facts=facts))
    for name in ("teacher", "learner", "kd", "tail"):
        translations = [*references[:-2], f"What {name} says", references[-1]]
        add_result(pair, name, translations, references)
    text = report.build(pair)
    title = ADDED["tail"]["title"]
    assert any(line.startswith(f"| {title} ") for line in text.splitlines())
    page = (pair.files.run_dir / "report.html").read_text(encoding="utf-8")
    assert f"<td>{title}</td>" in page and f"<summary>{title}</summary>" in page
    assert plots.styles(pair.models)[title]["color"] == "#123abc"
    for figure in ("validation_bleu", "transfer_loss"):
        drawing = (pair.files.run_dir / f"{figure}.svg").read_text(encoding="utf-8")
        assert "#123abc" in drawing


def test_each_model_has_its_own_look(load):
    """Of as many as there may be with eight colours and seven markers."""
    many = {f"m{number}": {"start": "learner"} for number in range(20)}
    models = load(many).models
    looks = [(style["color"], style["marker"]) for style in plots.styles(models).values()]
    assert len(set(looks)) == len(looks) == len(models)
    assert list(plots.styles(models)) == [model.title for model in models]


def test_the_list_is_the_one_that_the_commands_read(load, monkeypatch):
    from benchmark import sizes
    from pipeline import sweep

    pair = load(ADDED)
    assert [model.name for model in sweep.fine_tunings(pair, ["tail"])] == ["tail"]
    assert [model.name for model in sweep.fine_tunings(pair, None)] == ["kd", "ka"]
    with pytest.raises(PipelineError, match="learner is no fine-tuning: choose from control, kd"):
        sweep.fine_tunings(pair, ["learner"])
    slots = cli.devices.slots(2, 1, [t.resolved(pair) for t in stages.trainings(pair)])
    assert len(slots) == 2
    monkeypatch.setattr(sizes, "CONFIGS", pair.files.config_dir.parent)
    sizes.criterions_of.cache_clear()
    options = sizes.criterion_options(pair.files.config_dir.name, "backward_kl")
    sizes.criterions_of.cache_clear()
    assert options[:2] == ["--criterion", "backward_kl"]
    assert "--transfer-weight" in options
