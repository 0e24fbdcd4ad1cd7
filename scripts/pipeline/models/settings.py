"""The settings of a language pair: ``configs/PAIR/pair.yaml`` and the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from pipeline.engine.errors import PipelineError
from pipeline.models import model_list, students
from pipeline.models.decoding import Decoding
from pipeline.models.model_list import Model
from pipeline.models.pretrained_teacher import GivenTeacher
from pipeline.models.run_files import RunFiles
from pipeline.models.translate_settings import Recipe

REPOSITORY = Path(__file__).resolve().parents[3]
CONFIGS = REPOSITORY / "configs"
USER_DIR = REPOSITORY / "ka_fairseq"
MODELS_FILE = CONFIGS / "models.yaml"
SETTINGS_FILE = "pair.yaml"

QUICK = "quick"
FULL = "full"
"""The sections for a shorter and a longer run of a pair; see `_variant`."""

QUANTIZATIONS = ("int8", "int8_float32", "float16", "float32")
"""The precisions of an exported model's weights; the first is the default."""

_NEEDED = ("source_lang", "target_lang", "text", "segmentation", "decoding")


@dataclass(frozen=True)
class Pair:
    """A language pair: the text, the models, and how they are trained and decoded.

    Attributes:
        name: the name of the run and of its folder.
        files: where the run's files are.
        source_lang: the language code of the source, also the ending of its files.
        target_lang: the language code of the target, also the ending of its files.
        text: which sentence pairs to use; see `pipeline.text.prepare`. Key `test` has the
            name of the test set, or a list of names. Names are of `parts`, or of files in a user's
            own corpus.
        segmentation: how words become subwords; see `pipeline.text.segmentation`.
        decoding: beams and length penalty.
        training: overrides for every Hydra config and method.
        finetuning: further overrides for models that start from another model.
        models: the models to train and evaluate, in the order of the table.
        everything: whether all models are trained by default.
        translate: how a teacher translates.
        teacher: a teacher that is already trained, or None to train one.
        quantization: the precision of exported models, one of `QUANTIZATIONS`.
        students: the default of ``scripts/compare.sh --students``: presets, or `students.OWN`.
    """

    name: str
    files: RunFiles
    source_lang: str
    target_lang: str
    text: Mapping[str, Any]
    segmentation: Mapping[str, Any]
    decoding: Decoding
    training: Mapping[str, Any]
    finetuning: Mapping[str, Any]
    models: tuple[Model, ...]
    teacher: GivenTeacher | None = None
    everything: bool = False
    translate: Recipe = field(default_factory=Recipe)
    quantization: str = QUANTIZATIONS[0]
    students: tuple[str, ...] = (students.OWN,)

    @property
    def joint_dictionary(self) -> bool:
        """Whether both languages have one dictionary. Only a given teacher may have two."""
        return self.teacher is None or self.teacher.joint

    @property
    def default_models(self) -> tuple[Model, ...]:
        """The models that are trained if none is named."""
        return tuple(model for model in self.models if model.default or self.everything)

    @property
    def languages(self) -> tuple[str, str]:
        """Source and target."""
        return self.source_lang, self.target_lang

    @property
    def titles(self) -> dict[str, str]:
        """The titles of the models, by name."""
        return {model.name: model.title for model in self.models}

    @property
    def tests(self) -> tuple[str, ...]:
        """The test sets that `text` names; the report uses the first."""
        names = self.text.get("test") or "test"
        return (names,) if isinstance(names, str) else tuple(names)

    @property
    def reference(self) -> Path:
        """The test set's target side before tokenization."""
        return self._raw_test(self.target_lang)

    @property
    def source(self) -> Path:
        """The test set's source side before tokenization."""
        return self._raw_test(self.source_lang)

    def _raw_test(self, language: str) -> Path:
        kind = "raw." if "cleaning" in self.text else ""
        return self.files.text_dir / f"test.{kind}{language}"


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
) -> Pair:
    """Read a pair's settings.

    Args:
        config_dir: folder with `SETTINGS_FILE`.
        runs: the parent of the run folders.
        name: the name of the run; by default the name of `config_dir`.
        variant: the section to apply, `QUICK` or `FULL`; added to the name of the run.
        own: the user's corpus instead of the pair's text: folder, source and target language.
        train_teacher: ignore the section `teacher`; added to the name of the run.

    Raises:
        PipelineError: the file, a section, or a file that it names is missing; a value is invalid.
    """
    path = config_dir / SETTINGS_FILE
    content = _content(path)
    name = (name or config_dir.resolve().name) + ("-train-teacher" if train_teacher else "")
    name += f"-{variant}" if variant else ""
    run_dir = runs.resolve() / name
    if ":" in str(run_dir):
        raise PipelineError(f"{run_dir}: fairseq splits paths at colons; choose another folder")
    hydra_dir = _hydra_dir(content.get("configs"), path)
    data_dir, source, target = own or (None, content["source_lang"], content["target_lang"])
    pair = Pair(
        name=name,
        files=RunFiles(run_dir, config_dir.resolve(), hydra_dir, data_dir),
        source_lang=source,
        target_lang=target,
        text=content["text"],
        segmentation=content["segmentation"],
        decoding=Decoding.load(content["decoding"], path),
        training=_overrides(content, "training", path),
        finetuning=_overrides(content, "finetuning", path),
        models=tuple(model_list.merged(common_models(), content.get("models"), path)),
        translate=Recipe.load(content.get("translate")),
        quantization=_quantization(content.get("export"), path),
        students=students.check_names(
            content.get("students", [students.OWN]), path.parent, f"{path}: students"
        )
        or (students.OWN,),
    )
    check_tests(pair.tests, f"{path}: text.test")
    if "teacher" in content and not train_teacher:
        pair = replace(pair, teacher=_given_teacher(pair, content["teacher"]))
    for model in pair.models:
        if model.student:
            where = f"{path}: models.{model.name}.student {model.student}"
            students.check_dictionaries(model.settings, pair.joint_dictionary, where)
    return _variant(pair, content, variant, path) if variant else pair


def _content(path: Path) -> Mapping[str, Any]:
    """Return the sections of `SETTINGS_FILE`.

    Raises:
        PipelineError: there is no such file, the file is no YAML, or a section is missing.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        folder, name = path.parent, path.name
        raise PipelineError(
            f"{folder} has no {name}: give a folder with configs, such as configs/demo"
        ) from None
    except yaml.YAMLError as error:
        raise PipelineError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from None
    if missing := [section for section in _NEEDED if section not in content]:
        raise PipelineError(f"{path} lacks {', '.join(missing)}")
    return content


def _variant(pair: Pair, content: Mapping[str, Any], name: str, path: Path) -> Pair:
    """Return a pair with the changes of one of its sections, `QUICK` or `FULL`.

    The section may change keys of `text`, `segmentation` and `translate`, and keys of `training`
    for all trainings.

    Raises:
        PipelineError: the section has an unknown key, or is missing. Only `QUICK` may be missing.
    """
    changes = content.get(name, {} if name == QUICK else None)
    if changes is None:
        raise PipelineError(f"--{name}: {path} has no section {name}")
    sections = ("text", "segmentation", "translate", "training")
    if unknown := [key for key in changes if key not in sections]:
        choices = ", ".join(sections)
        raise PipelineError(f"{path}: {name} has no {unknown[0]}: choose from {choices}")
    settings = changes.get("training", {})
    return replace(
        pair,
        text={**pair.text, **changes.get("text", {})},
        segmentation={**pair.segmentation, **changes.get("segmentation", {})},
        training={**pair.training, **settings},
        finetuning=_replaced(pair.finetuning, settings),
        models=tuple(
            replace(model, settings=_replaced(model.settings, settings)) for model in pair.models
        ),
        translate=Recipe.load(content.get("translate"), changes.get("translate")),
    )


def _replaced(own: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings, each with its changed value if there is one; add no other settings."""
    return {key: changes.get(key, value) for key, value in own.items()}


def check_tests(names: Iterable[Any], where: str) -> None:
    """Check names of test sets, which are also names of folders.

    Raises:
        PipelineError: a name is invalid; the message begins with `where`.
    """
    for name in names:
        if name in ("train", "valid") or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", str(name)):
            raise PipelineError(
                f"{where}: {name} is no name for a test set: use letters, digits, -._"
            )


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
    """Return the folder of the Hydra configs; if `named` is None, the folder of `path`.

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
    given = GivenTeacher.load(section, pair.files.config_dir, pair.languages)
    # A teacher marked `only_for` is ignored with `--data`.
    return None if pair.files.data_dir and given.only_for else given.check()


def common_models() -> dict[str, Any]:
    """Return the entries of the models that all pairs have."""
    return yaml.safe_load(MODELS_FILE.read_text(encoding="utf-8"))
