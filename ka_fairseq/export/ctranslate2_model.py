"""A checkpoint as a model for CTranslate2, by CTranslate2's own converter for fairseq.

That converter takes what fairseq-train of old wrote: ``args``, a Namespace with every option of the
model in it, and the folder of its dictionaries. So the model is built here first, by fairseq, from
whatever wrote the checkpoint, and handed over in that form.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from fairseq import models
from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerModel
from fairseq.tasks.translation import TranslationConfig, TranslationTask

import ka_fairseq  # noqa: F401  checkpoints of this package name its task and criterions
from ka_fairseq.errors import UserError
from ka_fairseq.export import plain
from ka_fairseq.whole import written_whole

QUANTIZATIONS = ("int8", "int8_float32", "float16", "float32")
MODEL_FILE = "model.bin"
"""A file that every model of CTranslate2's has."""

_ARCHITECTURES = ("transformer", "transformer_align")
_SIDES = ("source", "target")  # what the languages are called inside of the conversion

# What the converter reads; a model with other parameters computes something else than it writes.
_TAKEN = re.compile(
    r"(encoder|decoder)\."
    r"(embed_tokens|embed_positions|layernorm_embedding|layer_norm|output_projection"
    r"|layers\.\d+\."
    r"((self|encoder)_attn\.([qkv]|out)_proj|(self_attn|encoder_attn|final)_layer_norm|fc[12]))"
    r"\.(weight|bias)"
)


@dataclasses.dataclass(frozen=True)
class TranslationModel:
    """A model that CTranslate2 can express, built by fairseq.

    Attributes:
        checkpoint: where it came from.
        model: it, with its weights.
        languages: of source and target as the checkpoint has them, or None.
        dictionary: the source's.
    """

    checkpoint: Path
    model: TransformerModel
    languages: tuple[str | None, str | None]
    dictionary: Dictionary

    @property
    def max_tokens(self) -> tuple[int, int]:
        """How many subwords of a source it reads and of a target it writes, the end not counted."""
        source, target = self.model.max_positions()
        return source - 1, target - 1


def convert(
    checkpoint: Path,
    target: Path,
    *,
    dictionaries: tuple[Path, Path],
    quantization: str = "float32",
) -> TranslationModel:
    """Write a folder that ``ctranslate2.Translator`` takes: the model and its vocabularies.

    Args:
        checkpoint: a translation model, written by fairseq-train or fairseq-hydra-train, with or
            without this package, or by `export`.
        target: the folder; appears whole or not at all. One that holds such a model is replaced.
        dictionaries: fairseq's of source and target, one file twice where they are joint.
        quantization: of the weights, one of `QUANTIZATIONS`.

    Returns:
        The model that is written.

    Raises:
        UserError: it is no translation model, CTranslate2 cannot express it, the dictionaries are
            not the model's, or the folder cannot be written.
    """
    check_quantization(quantization)
    model = load(checkpoint, dictionaries)
    check_target(target)
    with written_whole(target) as folder:
        write(model, folder, dictionaries, quantization)
    return model


def check_quantization(name: str) -> None:
    """Refuse what CTranslate2's converter has no name for.

    Raises:
        UserError: with the names that there are.
    """
    if name not in QUANTIZATIONS:
        raise UserError(f"--quantization {name}: choose from {', '.join(QUANTIZATIONS)}")


def check_target(target: Path) -> None:
    """Refuse to replace what is no model of CTranslate2's.

    Raises:
        UserError: there is something else at `target`.
    """
    if target.is_dir() and not target.is_symlink():
        ours = (target / MODEL_FILE).is_file() or not any(target.iterdir())
    else:
        ours = not (target.exists() or target.is_symlink())
    if not ours:
        raise UserError(
            f"{target} is there and is no exported model: name another folder, or remove it"
        )


def load(checkpoint: Path, dictionaries: tuple[Path, Path]) -> TranslationModel:
    """Build the model of a checkpoint with its weights.

    Raises:
        UserError: as of `convert`.
    """
    if ":" in str(checkpoint) and not checkpoint.exists():
        raise UserError(
            f"{checkpoint} names an ensemble, and CTranslate2 runs one model: export one of them, "
            "or a learner that the ensemble taught"
        )
    state, cfg = plain.load(checkpoint)
    _check_kind(checkpoint, cfg)
    source, target = (_dictionary(path) for path in dictionaries)
    _check_sizes(checkpoint, state["model"], (source, target), dictionaries)
    args = argparse.Namespace(**cfg["model"])
    args.encoder_embed_path = args.decoder_embed_path = None  # the checkpoint has the embeddings
    task = TranslationTask(TranslationConfig(), source, target)
    try:
        model = models.build_model(args, task, from_checkpoint=True)
        model.load_state_dict(state["model"], strict=True)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the weights in {checkpoint} do not fit its own configuration and the dictionaries: "
            f"{error}"
        ) from error
    _check_expressible(checkpoint, model)
    languages = (cfg["task"].get("source_lang"), cfg["task"].get("target_lang"))
    return TranslationModel(checkpoint, model.eval(), languages, source)


def write(
    model: TranslationModel, folder: Path, dictionaries: tuple[Path, Path], quantization: str
) -> None:
    """Have the converter write a model to a folder that is not there yet.

    Raises:
        UserError: CTranslate2 is not installed, or cannot express the model.
    """
    try:
        from ctranslate2.converters import FairseqConverter
    except ImportError:
        raise UserError(
            "this needs ctranslate2: pip install 'ka-fairseq[export]', or ctranslate2 alone"
        ) from None
    # Inside of the folder, so that a kill leaves no more than it; the converter empties it itself.
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    args, weights = _flat_options(model.model), model.model.state_dict()
    torch.save({"args": args, "cfg": None, "model": weights}, inputs / "model.pt")
    for side, dictionary in zip(_SIDES, dictionaries, strict=True):
        shutil.copyfile(dictionary, inputs / f"dict.{side}.txt")
    converter = FairseqConverter(str(inputs / "model.pt"), str(inputs), *_SIDES)
    try:
        converter.convert(str(folder), quantization=quantization, force=True)
    except ValueError as error:
        raise UserError(f"CTranslate2 cannot express {model.checkpoint}: {error}") from error
    shutil.rmtree(inputs, ignore_errors=True)


def _check_kind(checkpoint: Path, cfg: Mapping[str, Any]) -> None:
    task = cfg["task"].get("_name")
    if task == "language_modeling":
        raise UserError(f"{checkpoint} is a language model: what is exported here translates")
    if task != "translation":
        raise UserError(
            f"{checkpoint} was trained for the task {task}: what is exported here is a model of "
            "the task translation or translation_with_teacher"
        )
    architecture = cfg["model"].get("_name") or cfg["model"].get("arch")
    name = models.ARCH_MODEL_NAME_REGISTRY.get(architecture, architecture)
    if name not in _ARCHITECTURES:
        raise UserError(
            f"{checkpoint} holds a model of the architecture {architecture}, which CTranslate2 "
            f"cannot express: it takes fairseq's {' and '.join(_ARCHITECTURES)} of any size"
        )


def _dictionary(path: Path) -> Dictionary:
    if not path.is_file():
        raise UserError(f"no dictionary at {path}: give the one that the model was trained with")
    try:
        return Dictionary.load(str(path))
    except (ValueError, RuntimeError, UnicodeError) as error:
        raise UserError(f"{path} is no dictionary of fairseq's: {error}") from error


def _check_sizes(
    checkpoint: Path,
    weights: Mapping[str, torch.Tensor],
    dictionaries: tuple[Dictionary, Dictionary],
    paths: tuple[Path, Path],
) -> None:
    for side, dictionary, path in zip(("encoder", "decoder"), dictionaries, paths, strict=True):
        embeddings = weights.get(f"{side}.embed_tokens.weight")
        if embeddings is not None and len(embeddings) != len(dictionary):
            raise UserError(
                f"{checkpoint} has {len(embeddings)} types in its {side}, {path} has "
                f"{len(dictionary)}: give the dictionary that it was trained with"
            )


def _check_expressible(checkpoint: Path, model: TransformerModel) -> None:
    cfg = model.cfg
    # What leaves no trace among the parameters, or a gap there that the converter stumbles over.
    refused = {
        "--cross-self-attention": cfg.cross_self_attention,
        "--no-cross-attention": cfg.no_cross_attention,
        "--no-decoder-final-norm": cfg.no_decoder_final_norm and cfg.decoder.normalize_before,
    }
    reasons = [option for option, given in refused.items() if given]
    reasons += [name for name, _ in model.named_parameters() if not _TAKEN.fullmatch(name)]
    if reasons:
        more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        raise UserError(
            f"CTranslate2 cannot express {checkpoint}: it has nothing like {reasons[0]}{more}"
        )


def _flat_options(model: TransformerModel) -> argparse.Namespace:
    """A model's options as fairseq-train's command line has them, whatever they came from."""
    options: dict[str, Any] = {}
    for field in dataclasses.fields(model.cfg):
        value = getattr(model.cfg, field.name)
        if dataclasses.is_dataclass(value):
            options |= {f"{field.name}_{key}": item for key, item in vars(value).items()}
        else:
            options[field.name] = value
    del options["_name"]
    return argparse.Namespace(task="translation", arch="transformer", **options)
