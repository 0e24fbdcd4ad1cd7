"""Subwords by sentencepiece, on raw text."""

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
        folder: the output folder for ``sentencepiece.model``.
        settings: options of sentencepiece's trainer: vocab_size, model_type, ...

    Raises:
        PipelineError: sentencepiece fails, for example if the text is too small for vocab_size.
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
    del languages, settings  # needed only by subword_bpe
    return [_MODEL]


def join(subwords: str) -> str:
    """Return the sentence that the subwords, separated by spaces, make."""
    return subwords.replace(" ", "").replace("\u2581", " ").strip()


def exported(folder: Path, language: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that `ka_fairseq.export.export_folder` needs."""
    del language, settings  # needed only by subword_bpe
    return {"model": folder / _MODEL}


class Segmenter:
    """The loaded model, the same for each language."""

    def __init__(self, folder: Path, language: str, settings: Mapping[str, Any]) -> None:
        del language, settings  # needed only by subword_bpe
        self._processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / _MODEL))

    def __call__(self, sentence: str) -> str:
        """Return the subwords, separated by spaces."""
        return " ".join(self._processor.encode(sentence, out_type=str))
