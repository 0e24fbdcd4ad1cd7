"""A teacher that was trained before, as ``pair.yaml`` names it."""

from __future__ import annotations

import pytest
import torch
from pipeline import stages
from pipeline.engine import files, state
from pipeline.engine.devices import WHOLE
from pipeline.engine.errors import PipelineError
from pipeline.models import pretrained_teacher, settings
from pipeline.results import evaluate
from pipeline.text import binarize, prepare

from tests.pipeline import own_configs
from tests.support import DEMO_TEACHER as SHIPPED
from tests.support import TEXT

OWN = (TEXT, "de", "en")
DEMO_TEXT = "LibreOffice help, MPL-2.0, from somewhere"


@pytest.fixture
def configs(tmp_path):
    """The demo's, as a user may have copied them."""
    return own_configs.copied("demo", tmp_path / "configs")


@pytest.fixture
def load(configs, tmp_path):
    """Load them after a change of the section `teacher`; None takes a key away."""

    def load(change=None, **options):
        with own_configs.changing(configs) as content:
            section = {**content["teacher"], **(change or {})}
            content["teacher"] = {k: value for k, value in section.items() if value is not None}
        return settings.load(configs, tmp_path / "runs", **options)

    return load


def done(pair, stage, inputs=None, **facts):
    state.write(pair.files.run_dir, stage, state.Record(inputs or {}, done=True, facts=facts))


def dictionary(path, types):
    files.write_lines(path, [f"type{n} 1" for n in range(types)])
    return str(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"checkpoint": "gone.pt"}, r"teacher\.checkpoint in pair\.yaml: .*gone\.pt is missing"),
        ({"segmentation": "gone.model"}, r"teacher\.segmentation .*gone\.model is missing"),
        ({"dictionary": {"de": "teacher/dict.txt", "en": "gone"}}, "teacher.dictionary .*gone is"),
        ({"log": "gone.log"}, r"teacher\.log .*gone\.log is missing.* --train-teacher"),
        ({"checkpoint": None, "dictionary": None}, "lacks checkpoint, dictionary$"),
        ({"dictionary": {"de": "teacher/dict.txt"}}, "dictionary in pair.yaml has none for en"),
        (
            {"chekpoint": "a.pt"},
            "no chekpoint: choose from checkpoint, segmentation, dictionary, log",
        ),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(load, change, says):
    with pytest.raises(PipelineError, match=says) as error:
        load(change)
    assert "\n" not in str(error.value)


def test_without_it_a_teacher_is_trained_in_a_run_of_its_own(load):
    pair = load({"checkpoint": "gone.pt"}, train_teacher=True)
    assert pair.teacher is None
    assert (pair.name, pair.files.run_dir.name) == ("configs-train-teacher",) * 2
    assert "criterion._name" in stages.trainings(pair)[0].inputs(pair, WHOLE)
    assert "segmentation.vocab_size" in binarize.inputs(pair)


def test_it_is_only_for_the_text_that_it_is_for(load):
    pair = load()
    done(pair, "prepare", text=DEMO_TEXT)
    assert pretrained_teacher.of(pair).checkpoint.name == "model.pt"
    done(pair, "prepare", text="translations of Home Assistant")
    assert pretrained_teacher.of(pair) is None
    assert load({"checkpoint": "gone.pt"}, own=OWN).teacher is None
    assert load({"checkpoint": "teacher/model.pt", "only_for": None}, own=OWN).teacher is not None


def test_what_depends_on_it_is_known_by_its_bytes(load, configs):
    pair = load()
    done(pair, "prepare", text=DEMO_TEXT)
    done(pair, "binarize", binarize.inputs(pair))
    before = binarize.inputs(pair), stages.trainings(pair)[0].inputs(pair, WHOLE)
    assert not any(key.startswith(("criterion", "segmentation.vocab")) for key in {**before[0]})
    for name, text, model in (
        ("model.pt", False, True),
        ("dict.txt", True, False),
        ("sentencepiece.model", True, False),
        ("training.log", False, False),
    ):
        with (configs / "teacher" / name).open("ab") as file:
            file.write(b"x 1\n")
        after = binarize.inputs(pair), stages.trainings(pair)[0].inputs(pair, WHOLE)
        assert (after[0] != before[0], after[1] != before[1]) == (text, model)
        before = after
    done(pair, "binarize", before[0])
    assert stages.trainings(pair)[0].inputs(pair, WHOLE) != before[1]


def test_two_dictionaries_are_not_joined(load, configs):
    paths = {lang: dictionary(configs / f"{lang}.txt", n) for lang, n in (("de", 4), ("en", 5))}
    given = load({"dictionary": paths}).teacher
    arguments = ["--srcdict", paths["de"], "--tgtdict", paths["en"]]
    assert given.preprocess_arguments == arguments


def test_another_dictionary_than_the_teachers_is_refused(load, tmp_path):
    pair = load()
    for language in pair.languages:
        dictionary(pair.files.bin_dir / f"dict.{language}.txt", 7)
    with pytest.raises(PipelineError, match=r"has 3072 target types, but .* 11: give the dict"):
        pretrained_teacher.install(pair, pair.teacher)


def test_what_is_no_checkpoint_is_refused(load, configs):
    (configs / "teacher" / "model.pt").write_text("weights", encoding="utf-8")
    pair = load()
    for language in pair.languages:
        dictionary(pair.files.bin_dir / f"dict.{language}.txt", 7)
    with pytest.raises(PipelineError, match=r"teacher\.checkpoint in pair\.yaml: .*model\.pt"):
        pretrained_teacher.install(pair, pair.teacher)


def test_a_segmentation_of_another_method_is_refused(load, tmp_path):
    pair = load({"segmentation": "teacher"})
    pretrained_teacher.adopt_segmentation(pair, pair.teacher, tmp_path)
    model = (tmp_path / "sentencepiece.model").read_bytes()
    assert model == (SHIPPED / "sentencepiece.model").read_bytes()
    pair.segmentation.update(method="subword-nmt", vocabulary_threshold=50)
    with pytest.raises(PipelineError, match=r"must be a folder with bpe\.codes, vocab\.de, voc"):
        pretrained_teacher.adopt_segmentation(pair, pair.teacher, tmp_path)
    codes = tmp_path / "my.codes"
    codes.write_text("#version: 0.2\na b\n", encoding="utf-8")
    del pair.segmentation["vocabulary_threshold"]
    pair = load({"segmentation": str(codes)})
    pair.segmentation.update(method="subword-nmt")
    pretrained_teacher.adopt_segmentation(pair, pair.teacher, tmp_path)
    assert (tmp_path / "bpe.codes").read_bytes() == codes.read_bytes()


def test_the_demos_teacher_is_small_and_names_no_machine():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 6_000_000
    state_dict = torch.load(SHIPPED / "model.pt", weights_only=True)
    assert state_dict["last_optimizer_state"] is None
    folders = ("data", "save_dir", "finetune_from_model", "user_dir")
    sections = [section for section in state_dict["cfg"].values() if isinstance(section, dict)]
    assert not any(section.get(key) for section in sections for key in folders)


@pytest.mark.slow
@pytest.mark.extended
def test_the_demos_teacher_fits_the_demos_text_and_translates(load):
    pair = load({"only_for": None}, own=OWN)
    for stage in ("prepare", "binarize", "teacher", "lenpen.teacher", "evaluate.teacher"):
        stages.table(pair)[stage].execute(pair.files)
    facts = {name: state.read(pair.files.run_dir, name).facts for name in ("binarize", "teacher")}
    assert facts["binarize"]["unknown_percent"] < 0.1
    assert facts["teacher"]["parameters"] == 2_669_952
    assert facts["teacher"]["train_seconds"] > 1000
    types = (SHIPPED / "dict.txt").read_text(encoding="utf-8").count("\n") + 4
    model = torch.load(pair.files.best_checkpoint("teacher"), weights_only=True)["model"]
    assert len(model["decoder.embed_tokens.weight"]) == types
    assert evaluate.scores(pair, "teacher")["bleu"] > 25


@pytest.mark.slow
def test_text_that_it_cannot_read_is_refused(load, tmp_path):
    greek = tmp_path / "greek"
    greek.mkdir()
    for path in TEXT.glob("*.??"):
        if path.suffix in (".de", ".en"):
            lines = path.read_text(encoding="utf-8").translate(
                {ord("a") + n: ord("α") + n for n in range(25)}
            )
            (greek / path.name).write_text(lines, encoding="utf-8")
    pair = load({"only_for": None}, own=(greek, "de", "en"))
    prepared = prepare.run(pair)
    done(pair, "prepare", **prepared)
    with pytest.raises(PipelineError, match=r"% of the subwords in \S+ are not in the dictionary"):
        binarize.run(pair)
