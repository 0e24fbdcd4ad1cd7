"""Use a teacher that is already trained: the section `teacher` of ``pair.yaml``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.engine import files, state
from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import say
from pipeline.models import exporting, training_log
from pipeline.text import segmentation

if TYPE_CHECKING:
    from pipeline.models.settings import Pair

_SPECIAL = 4  # types that every dictionary of fairseq has, but not its file

STAGE = "teacher"
"""The stage that copies this teacher, instead of training one."""

_NEEDED = ("checkpoint", "segmentation", "dictionary")
_OPTIONAL = ("log", "only_for")


@dataclass(frozen=True)
class GivenTeacher:
    """A trained model, and the files that a student must share with it.

    Attributes:
        checkpoint: a checkpoint of fairseq, or an exported checkpoint.
        segmentation: sentencepiece's model, or subword-nmt's codes; or a folder that holds them
            (and subword-nmt's vocabularies) under the names that `binarize` gives them.
        dictionaries: fairseq's ``dict.txt`` of each language; the same file for a joint one.
        log: the log of its training, by fairseq with ``log_format: json``; for the report.
        only_for: the text of this teacher, as `prepare` names it. For any other text the pipeline
            trains a teacher. None: any text.
    """

    checkpoint: Path
    segmentation: Path
    dictionaries: Mapping[str, Path]
    log: Path | None = None
    only_for: str | None = None

    @classmethod
    def load(
        cls, section: Mapping[str, Any], folder: Path, languages: tuple[str, str]
    ) -> GivenTeacher:
        """Read the section.

        Args:
            section: the content of `teacher` in ``pair.yaml``.
            folder: the folder of ``pair.yaml``; paths are relative to this folder.
            languages: source and target.

        Raises:
            PipelineError: a key is unknown or missing.
        """
        known = (*_NEEDED, *_OPTIONAL)
        if not isinstance(section, Mapping) or (unknown := sorted(set(section) - set(known))):
            wrong = unknown[0] if isinstance(section, Mapping) else repr(section)
            raise PipelineError(f"teacher in pair.yaml: no {wrong}: choose from {', '.join(known)}")
        if missing := [key for key in _NEEDED if not section.get(key)]:
            raise PipelineError(f"teacher in pair.yaml lacks {', '.join(missing)}")
        named = section["dictionary"]
        if not isinstance(named, Mapping):
            named = dict.fromkeys(languages, named)
        if absent := [language for language in languages if language not in named]:
            raise PipelineError(f"teacher.dictionary in pair.yaml has none for {absent[0]}")
        log = section.get("log")
        return cls(
            folder / section["checkpoint"],
            folder / section["segmentation"],
            {language: folder / named[language] for language in languages},
            folder / log if log else None,
            section.get("only_for"),
        )

    def check(self) -> GivenTeacher:
        """Return the teacher itself, after a check of its files.

        Raises:
            PipelineError: a file is missing.
        """
        paths = {"checkpoint": self.checkpoint, "segmentation": self.segmentation, "log": self.log}
        named = [*paths.items(), *(("dictionary", path) for path in self.dictionaries.values())]
        for key, path in named:
            if path is not None and not path.exists():
                raise PipelineError(
                    f"teacher.{key} in pair.yaml: {path} is missing; correct the path, or train a "
                    "teacher: --train-teacher"
                )
        return self

    @property
    def text_inputs(self) -> dict[str, Any]:
        """The files that binarized text depends on, as hashes."""
        segmenting = sorted(p for p in self.segmentation.rglob("*") if p.is_file())
        return {
            "teacher.segmentation": [files.sha256(p) for p in segmenting or [self.segmentation]],
            "teacher.dictionary": [files.sha256(path) for path in self.dictionaries.values()],
        }

    @property
    def joint(self) -> bool:
        """Whether both languages have one dictionary."""
        return len({path.resolve() for path in self.dictionaries.values()}) == 1

    @property
    def preprocess_arguments(self) -> list[str]:
        """The arguments of fairseq-preprocess for the dictionaries."""
        source, target = (str(path.resolve()) for path in self.dictionaries.values())
        if self.joint:
            return ["--joined-dictionary", "--srcdict", source]
        return ["--srcdict", source, "--tgtdict", target]


def of(pair: Pair, text: str | None = None) -> GivenTeacher | None:
    """Return the teacher that ``pair.yaml`` gives for a text, or None.

    Args:
        pair: the language pair.
        text: the name that `prepare` gives the text; by default the prepared text.
    """
    given = pair.teacher
    if given is None or given.only_for is None:
        return given
    if text is None:
        record = state.read(pair.files.run_dir, "prepare")
        text = str(record.facts.get("text", "")) if record is not None else ""
    return given if text.startswith(given.only_for) else None


def inputs(pair: Pair, given: GivenTeacher) -> dict[str, Any]:
    """Return what the stage `teacher` depends on."""
    return {
        "teacher.checkpoint": files.sha256(given.checkpoint),
        "from binarize": state.fingerprint(pair.files.run_dir, "binarize"),
    }


def install(pair: Pair, given: GivenTeacher) -> dict[str, Any]:
    """Copy the teacher to the folder where later stages expect a trained teacher.

    Returns:
        Facts for the report.

    Raises:
        PipelineError: the file is no checkpoint, or its number of types is not its dictionary's.
    """
    folder = pair.files.model_dir(STAGE)
    files.remove(folder)
    folder.mkdir(parents=True)
    dictionaries = {
        language: pair.files.bin_dir / f"dict.{language}.txt" for language in pair.languages
    }
    for path in dictionaries.values():
        shutil.copy(path, folder)  # a frozen teacher's dictionaries are searched here first
    try:
        exporting.export(given.checkpoint, pair.files.model(STAGE))
    except PipelineError as error:
        raise PipelineError(f"teacher.checkpoint in pair.yaml: {error}") from None
    weights = _weights(pair.files.model(STAGE))
    types = _SPECIAL + len(files.read_lines(dictionaries[pair.target_lang]))
    found = weights.get("decoder.embed_tokens.weight")
    if found is not None and len(found) != types:
        raise PipelineError(
            f"{given.checkpoint} has {len(found)} target types, but teacher.dictionary in "
            f"pair.yaml has {types}: give the dictionary that it was trained with"
        )
    shutil.copy(pair.files.model(STAGE), pair.files.best_checkpoint(STAGE))
    facts = {"parameters": _parameters(weights), "given": given.checkpoint.name}
    if given.log is not None:
        pair.files.log(STAGE).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(given.log, pair.files.log(STAGE))
        seconds = training_log.by_epoch(training_log.read(given.log), "train_train_wall")
        facts["train_seconds"] = sum(seconds.values())
    say(f"teacher: {given.checkpoint}, which is already trained")
    return facts


def adopt_segmentation(pair: Pair, given: GivenTeacher, folder: Path) -> None:
    """Copy the teacher's segmentation model to the folder that `segmentation.encode` reads."""
    segmentation.adopt(given.segmentation, folder, pair.languages, pair.segmentation)


def _weights(path: Path) -> Mapping[str, Any]:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)["model"]


def _parameters(weights: Mapping[str, Any]) -> int:
    """Count the trained parameters. A tensor with several names counts once."""
    tensors = {
        tensor.data_ptr(): tensor.numel()
        for name, tensor in weights.items()
        if not name.endswith((".version", "._float_tensor"))
    }
    return sum(tensors.values())
