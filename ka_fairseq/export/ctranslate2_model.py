"""Convert a checkpoint to a CTranslate2 model, with CTranslate2's converter for fairseq.

The converter reads only the old checkpoint format of fairseq-train: ``args``, a Namespace with
every option of the model, and a folder of dictionaries. So this module builds the model with
fairseq from a checkpoint of any format, and then writes the old format for the converter.
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
"""A file in every CTranslate2 model."""

_ARCHITECTURES = ("transformer", "transformer_align")
_SIDES = ("source", "target")  # names of the languages during the conversion

# Parameters that the converter reads. It would ignore other parameters and write a wrong model.
_TAKEN = re.compile(
    r"(encoder|decoder)\."
    r"(embed_tokens|embed_positions|layernorm_embedding|layer_norm|output_projection"
    r"|layers\.\d+\."
    r"((self|encoder)_attn\.([qkv]|out)_proj|(self_attn|encoder_attn|final)_layer_norm|fc[12]))"
    r"\.(weight|bias)"
)


@dataclasses.dataclass(frozen=True)
class TranslationModel:
    """A model built by fairseq that CTranslate2 supports.

    Attributes:
        checkpoint: the file that the model comes from.
        model: the model, with its weights.
        languages: source and target in the checkpoint, each a name or None.
        dictionary: the source dictionary.
    """

    checkpoint: Path
    model: TransformerModel
    languages: tuple[str | None, str | None]
    dictionary: Dictionary

    @property
    def max_tokens(self) -> tuple[int, int]:
        """The greatest number of source subwords and of target subwords, without the end symbol."""
        source, target = self.model.max_positions()
        return source - 1, target - 1


def convert(
    checkpoint: Path,
    target: Path,
    *,
    dictionaries: tuple[Path, Path],
    quantization: str = "float32",
) -> TranslationModel:
    """Write a folder for ``ctranslate2.Translator``: the model and its vocabularies.

    Args:
        checkpoint: a translation model, written by fairseq-train or fairseq-hydra-train, with or
            without this package, or by `export`.
        target: the folder to write. The folder appears complete or not at all. An earlier
            CTranslate2 model in its place is replaced.
        dictionaries: fairseq's dictionaries of source and target; a joint dictionary twice.
        quantization: type of the weights, one of `QUANTIZATIONS`.

    Returns:
        The model that is written.

    Raises:
        UserError: the checkpoint holds no translation model, CTranslate2 does not support the
            model, the dictionaries do not fit the model, or the folder cannot be written.
    """
    check_quantization(quantization)
    model = load(checkpoint, dictionaries)
    check_target(target)
    with written_whole(target) as folder:
        write(model, folder, dictionaries, quantization)
    return model


def check_quantization(name: str) -> None:
    """Refuse an unknown quantization.

    Raises:
        UserError: the name is unknown. The message lists the valid names.
    """
    if name not in QUANTIZATIONS:
        raise UserError(f"--quantization {name}: choose from {', '.join(QUANTIZATIONS)}")


def check_target(target: Path) -> None:
    """Refuse to replace a file or folder other than a CTranslate2 model.

    Raises:
        UserError: `target` is neither absent, nor empty, nor a CTranslate2 model.
    """
    if target.is_dir() and not target.is_symlink():
        ours = (target / MODEL_FILE).is_file() or not any(target.iterdir())
    else:
        ours = not (target.exists() or target.is_symlink())
    if not ours:
        raise UserError(
            f"{target} exists and is no exported model: name another folder, or remove {target}"
        )


def load(checkpoint: Path, dictionaries: tuple[Path, Path]) -> TranslationModel:
    """Build the model of a checkpoint with its weights.

    Raises:
        UserError: as for `convert`.
    """
    if ":" in str(checkpoint) and not checkpoint.exists():
        raise UserError(
            f"{checkpoint} names an ensemble, and CTranslate2 runs one model: export one model of "
            "the ensemble, or a student of the ensemble"
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
    """Write a model with the converter to a new folder.

    Raises:
        UserError: CTranslate2 is not installed, or does not support the model.
    """
    try:
        from ctranslate2.converters import FairseqConverter
    except ImportError:
        raise UserError(
            "ctranslate2 is not installed: pip install 'ka-fairseq[export]', or ctranslate2 alone"
        ) from None
    # The inputs are in a subfolder, so that a kill leaves only this folder. The converter first
    # reads the inputs, and then empties the folder.
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
        raise UserError(f"CTranslate2 does not support {model.checkpoint}: {error}") from error
    shutil.rmtree(inputs, ignore_errors=True)


def _check_kind(checkpoint: Path, cfg: Mapping[str, Any]) -> None:
    task = cfg["task"].get("_name")
    if task == "language_modeling":
        raise UserError(f"{checkpoint} is a language model: give a translation model")
    if task != "translation":
        raise UserError(
            f"{checkpoint} was trained for the task {task}: give a model of the task translation "
            "or translation_with_teacher"
        )
    architecture = cfg["model"].get("_name") or cfg["model"].get("arch")
    name = models.ARCH_MODEL_NAME_REGISTRY.get(architecture, architecture)
    if name not in _ARCHITECTURES:
        raise UserError(
            f"{checkpoint} holds a model of the architecture {architecture}, which CTranslate2 "
            f"does not support: give a {' or '.join(_ARCHITECTURES)} of fairseq, of any size"
        )


def _dictionary(path: Path) -> Dictionary:
    if not path.is_file():
        raise UserError(f"no dictionary at {path}: give the dictionary of the model's training")
    try:
        return Dictionary.load(str(path))
    except (ValueError, RuntimeError, UnicodeError) as error:
        raise UserError(f"{path} is no dictionary of fairseq: {error}") from error


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
                f"{len(dictionary)}: give the dictionary of the model's training"
            )


def _check_expressible(checkpoint: Path, model: TransformerModel) -> None:
    cfg = model.cfg
    # The names of the parameters, which are checked below, do not reveal these options. Some of
    # the options add no parameters, and some remove parameters that the converter needs.
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
            f"CTranslate2 does not support {checkpoint}: its model has {reasons[0]}{more}"
        )


def _flat_options(model: TransformerModel) -> argparse.Namespace:
    """Return a model's options in the form of fairseq-train's command line."""
    options: dict[str, Any] = {}
    for field in dataclasses.fields(model.cfg):
        value = getattr(model.cfg, field.name)
        if dataclasses.is_dataclass(value):
            options |= {f"{field.name}_{key}": item for key, item in vars(value).items()}
        else:
            options[field.name] = value
    del options["_name"]
    return argparse.Namespace(task="translation", arch="transformer", **options)
