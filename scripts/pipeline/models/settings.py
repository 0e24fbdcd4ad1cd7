"""What the pipeline knows of a language pair: ``configs/PAIR/pair.yaml`` and the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from pipeline.engine.devices import Slot
from pipeline.engine.errors import PipelineError
from pipeline.models import model_list, students
from pipeline.models.decoding import Decoding
from pipeline.models.model_list import Model
from pipeline.models.pretrained_teacher import GivenTeacher
from pipeline.models.translate_settings import Recipe

REPOSITORY = Path(__file__).resolve().parents[3]
CONFIGS = REPOSITORY / "configs"
USER_DIR = REPOSITORY / "ka_fairseq"
MODELS_FILE = CONFIGS / "models.yaml"
SETTINGS_FILE = "pair.yaml"

QUICK = "quick"
FULL = "full"
"""Sections that make a shorter and a longer run of a pair: `_variant`."""

QUANTIZATIONS = ("int8", "int8_float32", "float16", "float32")
"""What an exported model's weights may be kept in; the first by default."""

_SECTIONS = ("source_lang", "target_lang", "text", "segmentation")


@dataclass(frozen=True)
class Pair:
    """A language pair, with where its files are.

    Attributes:
        name: names the folder of the run.
        config_dir: holds `SETTINGS_FILE`.
        hydra_dir: holds the Hydra configs: the same folder, or the one that `configs` names.
        run_dir: where all output goes.
        source_lang: language code of the source, the ending of its files.
        target_lang: likewise of the target.
        data_dir: the user's own corpus, or None for the text that `text` names.
        archives_dir: the user's folder with a release's archives, or None to download them.
        text: which sentence pairs to use; see `pipeline.text.prepare`. Under `test` the name of
            the test set, or a list of several: of `parts`, or of files in a user's own corpus.
        segmentation: how words become subwords; see `pipeline.text.segmentation`.
        decoding: beams and length penalty.
        training: overrides for every Hydra config.
        finetuning: further ones for those of models that go on from another.
        models: what is trained and evaluated, in the order of the table.
        everything: whether the models that are not trained by default count as those that are.
        translate: how a teacher translates; see `pipeline.models.translate_settings`.
        slot: what of this machine the stages may use.
        teacher: a teacher that was trained before, or None to train one.
        quantization: of exported models, one of `QUANTIZATIONS`.
        students: the sizes at which ``scripts/compare.sh`` trains each method, unless it is told
            others: presets, or `students.OWN`.
    """

    name: str
    config_dir: Path
    hydra_dir: Path
    run_dir: Path
    source_lang: str
    target_lang: str
    text: Mapping[str, Any]
    segmentation: Mapping[str, Any]
    decoding: Decoding
    training: Mapping[str, Any]
    finetuning: Mapping[str, Any]
    models: tuple[Model, ...]
    data_dir: Path | None = None
    archives_dir: Path | None = None
    slot: Slot = field(default_factory=Slot)
    teacher: GivenTeacher | None = None
    everything: bool = False
    translate: Mapping[str, Any] = field(default_factory=dict)
    quantization: str = QUANTIZATIONS[0]
    students: tuple[str, ...] = (students.OWN,)

    @property
    def joint_dictionary(self) -> bool:
        """Whether both languages have one dictionary: all but those of a given teacher are so."""
        return self.teacher is None or self.teacher.joint

    @property
    def default_models(self) -> tuple[Model, ...]:
        """The models that are trained where none is named."""
        return tuple(model for model in self.models if model.default or self.everything)

    @property
    def languages(self) -> tuple[str, str]:
        """Source and target."""
        return self.source_lang, self.target_lang

    @property
    def titles(self) -> dict[str, str]:
        """What the models are called, by name."""
        return {model.name: model.title for model in self.models}

    @property
    def tests(self) -> tuple[str, ...]:
        """The test sets that `text` names; the first is the one of the report."""
        names = self.text.get("test") or "test"
        return (names,) if isinstance(names, str) else tuple(names)

    @property
    def text_dir(self) -> Path:
        """Plain text, made by `prepare`."""
        return self.run_dir / "text"

    @property
    def reference(self) -> Path:
        """The test set's target side as it was before tokenization."""
        return self._raw_test(self.target_lang)

    @property
    def source(self) -> Path:
        """The test set's source side, likewise."""
        return self._raw_test(self.source_lang)

    @property
    def bin_dir(self) -> Path:
        """What fairseq reads, made by `binarize`."""
        return self.run_dir / "bin"

    @property
    def evaluate_dir(self) -> Path:
        """Translations of the test set and their scores."""
        return self.run_dir / "evaluate"

    @property
    def export_dir(self) -> Path:
        """A folder for each model, with all that translating needs."""
        return self.run_dir / "export"

    def model_dir(self, training: str) -> Path:
        """The checkpoints of a training."""
        return self.run_dir / training

    def best_checkpoint(self, training: str) -> Path:
        """The checkpoint that validation chose."""
        return self.model_dir(training) / "checkpoint_best.pt"

    def last_checkpoint(self, training: str) -> Path:
        """The checkpoint that a training which was cut off goes on from."""
        return self.model_dir(training) / "checkpoint_last.pt"

    def model(self, training: str) -> Path:
        """That checkpoint, reduced to what translating needs."""
        return self.model_dir(training) / "model.pt"

    def teacher_cache(self, training: str, text: str = "") -> Path:
        """What it answers as a teacher; a teacher that is redone takes it along.

        Args:
            training: the teacher's.
            text: that it answers, where it is not the references.
        """
        return self.model_dir(training) / (f"cache-{text}" if text else "cache")

    def log(self, stage: str) -> Path:
        """All that the commands of a stage printed."""
        return self.run_dir / "logs" / f"{stage}.log"

    def _raw_test(self, language: str) -> Path:
        kind = "raw." if "cleaning" in self.text else ""
        return self.text_dir / f"test.{kind}{language}"


def names() -> list[str]:
    """Return the pairs that have a folder in ``configs/``."""
    return sorted(path.parent.name for path in CONFIGS.glob(f"*/{SETTINGS_FILE}"))


def load(
    config_dir: Path,
    runs: Path,
    *,
    name: str = "",
    variant: str = "",
    own: tuple[Path, str, str] | None = None,
    train_teacher: bool = False,
    everything: bool = False,
) -> Pair:
    """Read a pair's settings.

    Args:
        config_dir: folder with `SETTINGS_FILE`.
        runs: where the folders of the runs are.
        name: the run's name; the folder's own by default.
        variant: the section to apply, `QUICK` or `FULL`; its runs are kept apart by the name.
        own: the user's corpus instead of the pair's text: folder, source and target language.
        everything: train the models that are not trained by default, too.
        train_teacher: leave the section `teacher` out; its runs are kept apart by the name.

    Raises:
        PipelineError: the file is missing, or a section of it, or a file that it names.
    """
    path = config_dir / SETTINGS_FILE
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{config_dir} has no {SETTINGS_FILE}") from None
    except yaml.YAMLError as error:
        raise PipelineError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from None
    missing = [section for section in (*_SECTIONS, "decoding") if section not in (content or {})]
    if missing:
        raise PipelineError(f"{path} lacks {', '.join(missing)}")
    name = (name or config_dir.resolve().name) + ("-train-teacher" if train_teacher else "")
    name += f"-{variant}" if variant else ""
    run_dir = runs.resolve() / name
    if ":" in str(run_dir):
        raise PipelineError(f"{run_dir}: fairseq splits paths at colons; choose another folder")
    pair = Pair(
        name=name,
        config_dir=config_dir.resolve(),
        hydra_dir=_hydra_dir(content.get("configs"), path),
        run_dir=run_dir,
        training=_overrides(content, "training", path),
        finetuning=_overrides(content, "finetuning", path),
        models=tuple(model_list.merged(common_models(), content.get("models"), path)),
        everything=everything,
        translate=_translate(content.get("translate"), {}),
        quantization=_quantization(content.get("export"), path),
        students=students.check_names(
            content.get("students", [students.OWN]), path.parent, f"{path}: students"
        )
        or (students.OWN,),
        **{section: content[section] for section in _SECTIONS},
        decoding=Decoding.load(content["decoding"], path),
    )
    check_tests(pair.tests, f"{path}: text.test")
    if own is not None:
        data_dir, source, target = own
        pair = replace(pair, data_dir=data_dir, source_lang=source, target_lang=target)
    if "teacher" in content and not train_teacher:
        pair = replace(pair, teacher=_given_teacher(pair, content["teacher"]))
    for model in pair.models:
        if model.student:
            where = f"{path}: models.{model.name}.student {model.student}"
            students.check_dictionaries(model.settings, pair.joint_dictionary, where)
    return _variant(pair, content, variant, path) if variant else pair


def _variant(pair: Pair, content: Mapping[str, Any], name: str, path: Path) -> Pair:
    """Return a pair with what one of its sections changes.

    The section may change keys of `text`, `segmentation`, `translate` and `training`, for all
    trainings, and give `layers` for all models that take over some.

    Raises:
        PipelineError: the section is missing and not `QUICK`, or has something else.
    """
    changes = content.get(name, {} if name == QUICK else None)
    if changes is None:
        raise PipelineError(f"--{name}: {path} has no section {name}")
    sections = ("text", "segmentation", "translate", "training", "layers")
    if unknown := [key for key in changes if key not in sections]:
        choices = ", ".join(sections)
        raise PipelineError(f"{path}: {name} has no {unknown[0]}: choose from {choices}")
    settings = changes.get("training", {})
    if layers := changes.get("layers", {}):
        students.check_layers(layers, f"{path}: {name}.layers")
    return replace(
        pair,
        text={**pair.text, **changes.get("text", {})},
        segmentation={**pair.segmentation, **changes.get("segmentation", {})},
        training={**pair.training, **settings},
        finetuning=_replaced(pair.finetuning, settings),
        models=tuple(
            replace(
                model,
                settings=_replaced(model.settings, settings),
                layers=layers if layers and model.layers else model.layers,
            )
            for model in pair.models
        ),
        translate=_translate(content.get("translate"), changes.get("translate")),
    )


def _replaced(own: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of some models, with those values that are changed for all."""
    return {key: changes.get(key, value) for key, value in own.items()}


def check_tests(names: Iterable[Any], where: str) -> None:
    """Check names of test sets, which are those of folders too.

    Raises:
        PipelineError: one is not a name; the text begins with `where`.
    """
    for name in names:
        if name in ("train", "valid") or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", str(name)):
            raise PipelineError(f"{where}: {name} is no name for a test set: letters, digits, -._")


def _translate(section: Any, changes: Any) -> Mapping[str, Any]:
    """Return the section `translate`, with what a variant changes, once it is found valid."""
    for part in (section, changes):
        Recipe.load(part)
    merged = {**(section or {}), **(changes or {})}
    Recipe.load(merged)
    return merged


def _quantization(section: Any, path: Path) -> str:
    section = {} if section is None else section
    if not isinstance(section, Mapping) or not section.keys() <= {"quantization"}:
        raise PipelineError(f"{path}: export has one setting, quantization")
    found = section.get("quantization", QUANTIZATIONS[0])
    if found not in QUANTIZATIONS:
        choices = ", ".join(QUANTIZATIONS)
        raise PipelineError(f"{path}: export.quantization: {found} is none of {choices}")
    return found


def _hydra_dir(named: Any, path: Path) -> Path:
    """Return the folder of the Hydra configs, the one beside `path` if `named` is None.

    Raises:
        PipelineError: there is no such folder.
    """
    found = (path.parent / str(named or ".")).resolve()
    if not found.is_dir():
        raise PipelineError(f"{path}: configs: {found} is no folder")
    return found


def _overrides(content: Mapping[str, Any], section: str, path: Path) -> Mapping[str, Any]:
    found = content.get(section) or {}
    if not isinstance(found, Mapping):
        raise PipelineError(f"{path}: {section}: give settings of fairseq's by dotted keys")
    return found


def _given_teacher(pair: Pair, section: Any) -> GivenTeacher | None:
    given = GivenTeacher.load(section, pair.config_dir, pair.languages)
    # A teacher marked `only_for` is ignored with `--data`.
    return None if pair.data_dir and given.only_for else given.check()


def common_models() -> dict[str, Any]:
    """Return the entries of the models that all pairs have."""
    return yaml.safe_load(MODELS_FILE.read_text(encoding="utf-8"))
