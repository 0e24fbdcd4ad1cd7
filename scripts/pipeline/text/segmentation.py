"""Split words into subwords: one model for both languages, by the pair's method."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.engine import parallel
from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import bar
from pipeline.text import sentence_pieces, subword_bpe

_METHODS = {"sentencepiece": sentence_pieces, "subword-nmt": subword_bpe}
_CHUNK = 2000
USED = ("method", "vocabulary_threshold")
"""The settings that segmenting with a trained model depends on."""

_segment: sentence_pieces.Segmenter | subword_bpe.Segmenter


def train(text: Mapping[str, Path], folder: Path, settings: Mapping[str, Any]) -> None:
    """Train the model of a pair.

    Args:
        text: a file of sentences for each language, one a line.
        folder: the output folder for the model.
        settings: ``method`` (sentencepiece by default), and the settings of the method.

    Raises:
        PipelineError: the method is unknown, or fails.
    """
    module, settings = _method(settings)
    module.train(text, folder, settings)


def adopt(
    source: Path, folder: Path, languages: Iterable[str], settings: Mapping[str, Any]
) -> None:
    """Use an existing model instead of the model that `train` would write.

    Args:
        source: the model's file, or a folder with all files that `train` writes.
        folder: the output folder for the model.
        languages: the languages of the text.
        settings: as for `train`; only the settings for using the model matter.

    Raises:
        PipelineError: the method is unknown, or a file is missing.
    """
    module, settings = _method(settings)
    model, *others = module.model_files(languages, settings)
    for name in (model, *others):
        path = source / name if source.is_dir() else source
        if not path.is_file() or (path == source and others):
            raise PipelineError(
                f"teacher.segmentation in pair.yaml: {source} must be a folder with "
                f"{', '.join((model, *others))}"
                + ("" if others else ", or this file with any name")
            )
        shutil.copy(path, folder / name)


def exported(folder: Path, language: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that `ka_fairseq.export.export_folder` needs of a model from `train`.

    Args:
        folder: the folder of the model.
        language: the source language.
        settings: as for `train`.
    """
    module, others = _method(settings)
    method = next(name for name, known in _METHODS.items() if known is module)
    return {"method": method, **module.exported(folder, language, others)}


def encode(
    folder: Path, language: str, settings: Mapping[str, Any], source: Path, target: Path
) -> None:
    """Write the sentences of `source` to `target` as subwords, separated by spaces.

    Args:
        folder: the folder of the model from `train`.
        language: the language of the file.
        settings: as for `train`.
        source: the input file, a sentence a line.
        target: the output file, a sentence a line.
    """
    with (
        source.open(encoding="utf-8", newline="\n") as lines,
        target.open("w", encoding="utf-8", newline="\n") as file,
    ):
        chunks = parallel.chunks(bar(lines, f"segmenting {source.name}", unit_scale=True), _CHUNK)
        file.writelines(
            parallel.ordered_map(
                _encode, chunks, initializer=_start, initargs=(folder, language, settings)
            )
        )


def join(subwords: str, settings: Mapping[str, Any]) -> str:
    """Return the sentence that `encode` split into these subwords; settings as for `encode`."""
    return _method(settings)[0].join(subwords)


def _method(settings: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    others = dict(settings)
    name = others.pop("method", "sentencepiece")
    if name not in _METHODS:
        raise PipelineError(
            f"segmentation.method {name} in pair.yaml: choose from {', '.join(_METHODS)}"
        )
    return _METHODS[name], others


def _start(folder: Path, language: str, settings: Mapping[str, Any]) -> None:
    global _segment
    module, settings = _method(settings)
    _segment = module.Segmenter(folder, language, settings)


def _encode(lines: list[str]) -> str:
    return "".join(f"{_segment(line.rstrip())}\n" for line in lines)
