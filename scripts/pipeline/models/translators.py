"""Stages `export.MODEL`: write a folder that translates raw text without fairseq."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.engine import files, state
from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import say
from pipeline.engine.stage import Stage
from pipeline.models import lenpen, plugin
from pipeline.models.settings import Pair
from pipeline.text import clean, segmentation

REFUSED = "refused"
"""The fact that tells why a model has no folder."""


def name(model: str) -> str:
    """Return the name of a model's stage."""
    return f"export.{model}"


def folder(pair: Pair, model: str) -> Path:
    """Return the export folder of a model."""
    return pair.files.export_dir / model


def facts(pair: Pair, model: str) -> dict[str, Any] | None:
    """Return the facts of a model's stage; None if the stage is not done.

    The facts are `megabytes` and `quantization`, or `REFUSED` with the reason for no folder.
    """
    return state.facts(pair.files.run_dir, name(model)) or None


def exported(pair: Pair, models: Iterable[str] | None = None) -> list[str]:
    """Return the models that have an export folder, in their order; by default of all models."""
    found = {model: facts(pair, model) for model in (pair.titles if models is None else models)}
    return [model for model, known in found.items() if known and REFUSED not in known]


def stage(pair: Pair, model: str) -> Stage:
    """Return the stage that writes the folder of a training's model."""
    return Stage(
        name(model),
        lambda slot: export(pair, model),
        lambda slot: inputs(pair, model),
        needs=("binarize", model, *lenpen.needs(pair, model)),
        clear=lambda: clear(pair, model),
        cheap=True,
    )


def inputs(pair: Pair, model: str) -> dict[str, Any]:
    """Return what the folder depends on."""
    return {
        "model": files.sha256(pair.files.model(model)),
        "quantization": pair.quantization,
        "beam": pair.decoding.beam,
        "lenpen": lenpen.of(pair, model),
        "from binarize": state.fingerprint(pair.files.run_dir, "binarize"),
    }


def export(pair: Pair, model: str) -> dict[str, Any]:
    """Write the folder. For a model that CTranslate2 cannot express, print the reason instead.

    Raises:
        PipelineError: the folder cannot be written.
    """
    target = folder(pair, model)
    clear(pair, model)
    plugin.load()
    from ka_fairseq.errors import UserError
    from ka_fairseq.export import export_folder

    source, other = (pair.files.bin_dir / f"dict.{language}.txt" for language in pair.languages)
    try:
        export_folder(
            pair.files.model(model),
            target,
            dictionaries=(source, other),
            segmentation=segmentation_of(pair),
            quantization=pair.quantization,
            languages=pair.languages,
            beam=pair.decoding.beam,
            lenpen=lenpen.of(pair, model),
        )
    except UserError as error:
        reason = plugin.message(error)
        if isinstance(error.__cause__, OSError):
            raise PipelineError(reason) from None
        say(f"{name(model)}: not exported: {reason}")
        return {REFUSED: reason}
    return {"quantization": pair.quantization, "megabytes": megabytes(target)}


def segmentation_of(pair: Pair) -> dict[str, Any]:
    """Return the steps of `prepare` and `binarize` that must be applied to raw text."""
    recipe = clean.Recipe.load(pair.languages, pair.text.get("cleaning", {}))
    return {
        **segmentation.exported(pair.files.bin_dir, pair.source_lang, pair.segmentation),
        "moses": recipe.tokenizer == "moses",
        "unicode_form": recipe.unicode_form,
    }


def clear(pair: Pair, model: str) -> None:
    """Remove a model's folder, and the leftovers of an interrupted run beside it."""
    files.remove(folder(pair, model))
    for path in pair.files.export_dir.glob(f"{model}.tmp*"):
        files.remove(path)


def megabytes(target: Path) -> float:
    """Return the size of a folder's files, in megabytes (10⁶ bytes)."""
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) / 1e6
