"""Subwords by sentencepiece, over raw text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import sentencepiece

from pipeline.engine.errors import PipelineError

_MODEL = "sentencepiece.model"


def train(text: Mapping[str, Path], folder: Path, settings: Mapping[str, Any]) -> None:
    """Train one model for all languages.

    Args:
        text: a file of sentences for each language.
        folder: gets ``sentencepiece.model``.
        settings: passed to sentencepiece's trainer: vocab_size, model_type, ...

    Raises:
        PipelineError: sentencepiece refuses, as where the text is too small for the vocabulary.
    """
    prefix = (folder / _MODEL).with_suffix("")
    try:
        sentencepiece.SentencePieceTrainer.train(
            input=[str(path) for path in text.values()],
            model_prefix=str(prefix),
            minloglevel=2,
            **settings,
        )
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise PipelineError(f"sentencepiece: {reason} (see segmentation in pair.yaml)") from None


def model_files(languages: Iterable[str], settings: Mapping[str, Any]) -> list[str]:
    """Return the names of the files that segmenting needs."""
    del languages, settings  # what BPE by subword-nmt needs
    return [_MODEL]


def join(subwords: str) -> str:
    """Return the sentence that subwords with spaces between them make."""
    return subwords.replace(" ", "").replace("\u2581", " ").strip()


def exported(folder: Path, language: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `ka_fairseq.export.export_folder` is to know."""
    del language, settings  # what BPE by subword-nmt needs
    return {"model": folder / _MODEL}


class Segmenter:
    """The model at work; it is the same for each language."""

    def __init__(self, folder: Path, language: str, settings: Mapping[str, Any]) -> None:
        del language, settings  # what BPE by subword-nmt needs
        self._processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / _MODEL))

    def __call__(self, sentence: str) -> str:
        """Return the subwords with spaces between them."""
        return " ".join(self._processor.encode(sentence, out_type=str))
