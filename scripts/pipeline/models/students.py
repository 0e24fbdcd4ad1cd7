"""Presets for students, ``students/NAME.yaml``: a shape, or how many layers a student takes over.

A shape is fairseq's settings of a model; a model's entry names it as its `student`. Layers are for
models that begin with another model's first layers (`Model.layers`): their shape is that one's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipeline.engine.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.models.model_list import Model

FOLDER = "students"
OWN = "own"
"""Stands for the size that a pair's configs have."""
LAYERS = "layers"
"""What a preset of layers holds, and nothing else."""
SIDES = ("encoder", "decoder")
COMMON = Path(__file__).resolve().parents[3] / "configs" / FOLDER


def settings(name: str, config_dir: Path, *, start: bool = False) -> dict[str, Any]:
    """Return what a preset of a shape sets of a Hydra config, by dotted keys.

    Args:
        name: of the preset.
        config_dir: a pair's; presets of its own are in its folder `FOLDER`.
        start: whether the model goes on from another. If so, what the preset sets besides
            the model (its keys with a dot, as a learning rate) is left out.

    Raises:
        PipelineError: there is none of this name, or it is no list of settings.
    """
    path, content = _read(name, config_dir)
    if LAYERS in content:
        raise PipelineError(
            f"student {name}: it has layers and no shape; choose from "
            f"{', '.join(_names(config_dir, kept=False)) or 'none'}"
        )
    model = {f"model.{key}": value for key, value in content.items() if "." not in key}
    _check_heads(model, path)
    others = {key: value for key, value in content.items() if "." in key and not start}
    return {**others, **model}


def layers(name: str, config_dir: Path) -> dict[str, int] | None:
    """Return how many layers a preset has of each of `SIDES`; None where it is a shape, or `OWN`.

    Raises:
        PipelineError: see `settings` and `check_layers`; it holds something besides.
    """
    if name == OWN:
        return None
    path, content = _read(name, config_dir)
    if LAYERS not in content:
        return None
    if others := [key for key in content if key != LAYERS]:
        raise PipelineError(f"{path}: layers stand alone: leave out {', '.join(others)}")
    check_layers(content[LAYERS], f"{path}: {LAYERS}")
    return dict(content[LAYERS])


def check_layers(found: Any, where: str) -> None:
    """Check that this says how many layers are taken over.

    Args:
        found: what should be a number for each of `SIDES`.
        where: it stands, for errors.

    Raises:
        PipelineError: it is none.
    """
    if not isinstance(found, Mapping) or set(found) != set(SIDES):
        raise PipelineError(f"{where}: give {{encoder: 1, decoder: 1}} or the like")
    for side, count in found.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise PipelineError(f"{where}.{side}: {count} is no number of layers")


def takes_over(models: Mapping[str, Model], name: str) -> bool:
    """Return whether a model takes over layers, or goes on from one that does."""
    return any(models[one].layers for one in _line(models, name))


def resized(model: Model, name: str, config_dir: Path) -> Model:
    """Return a model of the size that a preset has; `OWN` leaves it as it is.

    Its own settings come after those of the preset, as in a pair's list of models. Layers are
    those of models that take some over; others are left as they are.

    Raises:
        PipelineError: see `settings`.
    """
    if name == OWN:
        return model
    if kept := layers(name, config_dir):
        return dataclasses.replace(model, student=name, layers=kept if model.layers else {})
    preset = settings(name, config_dir, start=bool(model.start))
    own = {key: value for key, value in model.settings.items() if not key.startswith("model.")}
    return dataclasses.replace(model, student=name, settings={**preset, **own})


def check_names(names: Any, config_dir: Path, where: str) -> tuple[str, ...]:
    """Return the names of presets, each once, when all are there; `OWN` is one too.

    Args:
        names: a list of them.
        config_dir: see `settings`.
        where: they stand, for errors.

    Raises:
        PipelineError: a name is none.
    """
    known = [OWN, *sorted(_presets(config_dir))]
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise PipelineError(f"{where}: give a list of {', '.join(known)}")
    if unknown := [name for name in names if name not in known]:
        raise PipelineError(f"{where}: there is no {unknown[0]}: choose from {', '.join(known)}")
    for name in names:
        if name != OWN and layers(name, config_dir) is None:
            settings(name, config_dir)
    return tuple(dict.fromkeys(names))


def check_kind(
    models: Mapping[str, Model], methods: Iterable[str], name: str, config_dir: Path
) -> None:
    """Check that a preset is of the kind that methods need: layers, or a shape.

    Args:
        models: all of the pair, by name.
        methods: those that are compared.
        name: of the preset.
        config_dir: see `settings`.

    Raises:
        PipelineError: a method takes over layers and the preset is a shape, or the other way round.
    """
    kept = layers(name, config_dir) is not None
    for method in methods:
        if takes_over(models, method) == kept:
            continue
        why, kind = (
            ("takes over no layers, and this is a preset of layers", "of a shape")
            if kept
            else ("begins with another model's layers, so has its shape", "of layers")
        )
        others = ", ".join(_names(config_dir, kept=not kept)) or "there is none"
        raise PipelineError(
            f"--students {name}: {method} {why}: name a preset {kind} ({others}), or leave "
            f"{method} out of --methods"
        )


def check_starts(
    models: Mapping[str, Model], methods: Iterable[str], teachers: Iterable[str], *, kept: bool
) -> None:
    """Check that methods can be trained at another size, and all that they go on from.

    Args:
        models: all of the pair, by name.
        methods: those that are compared.
        teachers: those that keep their size.
        kept: whether the size is a number of layers that are taken over.

    Raises:
        PipelineError: one has a size of its own, or all layers of a teacher.
    """
    for method in methods:
        for name in _line(models, method):
            if kept and not takes_over(models, name):
                break  # it keeps its size, with all that it goes on from
            if name in teachers:
                raise PipelineError(
                    f"--students: {method} goes on from {name}, which keeps its size: leave "
                    f"{method} out of --methods"
                )
            fixed = _fixed(models[name], kept=kept)
            if fixed:
                also = "" if name == method else f", which {method} goes on from,"
                raise PipelineError(
                    f"--students: {name}{also} has a size of its own ({fixed[0]} in its settings): "
                    f"leave {method} out of --methods"
                )


def check_dictionaries(preset: Mapping[str, Any], joint: bool, where: str) -> None:
    """Check that a model can be trained on the pair's segmentation.

    Args:
        preset: the settings of a model, by dotted keys.
        joint: whether both languages have one dictionary.
        where: the preset is asked for, for errors.

    Raises:
        PipelineError: it shares embeddings between languages whose dictionaries differ.
    """
    shared = [key for key in ("model.share_all_embeddings",) if preset.get(key)]
    if shared and not joint:
        raise PipelineError(
            f"{where} does not fit the segmentation: it has {shared[0].partition('.')[2]}, and the "
            "teacher's dictionaries are two; name a preset without, in students/ beside pair.yaml"
        )


def _line(models: Mapping[str, Model], name: str) -> list[str]:
    """Return a model, the one that it goes on from, and so on."""
    found = [name]
    while (start := models[found[-1]].start) is not None:
        found.append(start)
    return found


def _fixed(model: Model, *, kept: bool) -> list[str]:
    """Return the settings of its own that a preset of layers, or a shape, should replace."""
    if kept:
        return [key for key in model.settings if key in {f"model.{side}_layers" for side in SIDES}]
    if model.student is not None:
        return []
    return [key for key in model.settings if key.startswith("model.")]


def _check_heads(model: Mapping[str, Any], path: Path) -> None:
    for side in ("encoder", "decoder"):
        width = model.get(f"model.{side}_embed_dim")
        heads = model.get(f"model.{side}_attention_heads")
        if width and heads and width % heads:
            raise PipelineError(
                f"{path}: {side}_embed_dim {width} is no multiple of {heads} {side}_attention_heads"
            )


def _names(config_dir: Path, *, kept: bool) -> list[str]:
    """Return the presets of layers, or those of a shape."""
    return [
        name
        for name in sorted(_presets(config_dir))
        if (LAYERS in _read(name, config_dir)[1]) == kept
    ]


def _read(name: str, config_dir: Path) -> tuple[Path, dict[str, Any]]:
    found = _presets(config_dir)
    if name not in found:
        raise PipelineError(f"student {name}: choose from {', '.join(sorted(found)) or 'none'}")
    content = yaml.safe_load(found[name].read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise PipelineError(f"{found[name]} should hold fairseq's settings of a model, by name")
    return found[name], content


def _presets(config_dir: Path) -> dict[str, Path]:
    """Return the file of each preset; a pair's own come before those of all."""
    folders = (COMMON, config_dir / FOLDER)
    return {path.stem: path for folder in folders for path in folder.glob("*.yaml")}
