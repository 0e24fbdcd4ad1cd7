"""What is done to raw text before a model reads it, as files and settings of an exported folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from fairseq.data import Dictionary

from ka_fairseq.errors import UserError

METHODS = ("sentencepiece", "subword-nmt", "none")
UNICODE_FORMS = ("NFC", "NFD", "NFKC", "NFKD")
# How the field's recipes, fairseq's among them, call Moses' tokenizer.
MOSES = {"normalize": True, "aggressive_dash_splits": True, "escape": True}

_KEYS = {
    "sentencepiece": ("model",),
    "subword-nmt": ("codes", "vocabulary", "vocabulary_threshold"),
    "none": (),
}
_COMMON_KEYS = ("method", "moses", "unicode_form")
_SPECIAL = re.compile(r"<(s|pad|/s|unk)>|madeupword\d+")
_LEAST_SHARED = 0.5
"""The least share of the dictionary's types that must come from the segmentation."""


def install(
    segmentation: Mapping[str, Any],
    folder: Path,
    languages: tuple[str | None, str | None],
    dictionary: Dictionary,
) -> tuple[dict[str, Any], list[str]]:
    """Copy what segmenting needs to a folder.

    Args:
        segmentation: as of `ka_fairseq.export.export_folder`.
        folder: where to.
        languages: of source and target, which Moses' rules depend on.
        dictionary: the source's, which the segmentation must fit.

    Returns:
        The settings `segmentation`, `moses` and `unicode_form` of ``translate.json``, and the
        requirements.

    Raises:
        UserError: a key or a value is none that there is, a file is missing, or the segmentation
            and the dictionary are of different models.
    """
    method = segmentation.get("method")
    if method not in METHODS:
        raise UserError(f"segmentation {method}: choose from {', '.join(METHODS)}")
    known = (*_COMMON_KEYS, *_KEYS[method])
    if unknown := sorted(set(segmentation) - set(known)):
        raise UserError(f"segmentation by {method} has no {unknown[0]}; it has {', '.join(known)}")
    form = segmentation.get("unicode_form")
    if form not in (None, *UNICODE_FORMS):
        raise UserError(f"unicode_form {form}: choose from {', '.join(UNICODE_FORMS)}")
    moses = _moses(segmentation.get("moses"), languages)
    settings, requirements = _INSTALLERS[method](segmentation, folder, dictionary)
    if moses:
        requirements = [*requirements, requirement("sacremoses")]
    settings = {"segmentation": settings, "moses": moses, "unicode_form": form}
    return settings, requirements


def requirement(name: str) -> str:
    """Return a line of a requirements.txt: this version of a package or a later one of its kind.

    Raises:
        UserError: the package is not installed.
    """
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        raise UserError(f"this needs {name}: pip install 'ka-fairseq[export]'") from None
    return f"{name}>={version},<{int(version.split('.')[0]) + 1}"


def _moses(
    given: bool | Mapping[str, bool] | None, languages: tuple[str | None, str | None]
) -> dict[str, Any] | None:
    if not given:
        return None
    options = {} if given is True else dict(given)
    if unknown := sorted(set(options) - set(MOSES)):
        raise UserError(f"moses has no {unknown[0]}; it has {', '.join(MOSES)}")
    if None in languages:
        raise UserError(
            "Moses' rules depend on the languages, and the checkpoint does not tell them: give "
            "--source-lang and --target-lang"
        )
    return {"source": languages[0], "target": languages[1], **MOSES, **options}


def _sentencepiece(
    segmentation: Mapping[str, Any], folder: Path, dictionary: Dictionary
) -> tuple[dict[str, Any], list[str]]:
    path = _file(segmentation.get("model"), "sentencepiece's model")
    try:
        from sentencepiece import sentencepiece_model_pb2
    except ImportError as error:
        raise UserError(f"this needs {error.name}: pip install 'ka-fairseq[export]'") from None
    model = sentencepiece_model_pb2.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's own, of one module or another
        raise UserError(f"{path} is no model of sentencepiece's: {error}") from None
    _check_share(path, dictionary, {piece.piece for piece in model.pieces})
    # It names the files that it was trained on, with their folders.
    model.trainer_spec.ClearField("input")
    model.trainer_spec.ClearField("model_prefix")
    (folder / "sentencepiece.model").write_bytes(model.SerializeToString())
    settings = {"method": "sentencepiece", "model": "sentencepiece.model"}
    return settings, [requirement("sentencepiece")]


def _subword_nmt(
    segmentation: Mapping[str, Any], folder: Path, dictionary: Dictionary
) -> tuple[dict[str, Any], list[str]]:
    codes = _file(segmentation.get("codes"), "subword-nmt's codes")
    vocabulary = segmentation.get("vocabulary")
    threshold = segmentation.get("vocabulary_threshold")
    if (vocabulary is None) != (threshold is None):
        raise UserError("a vocabulary of BPE and its threshold go together: give both or none")
    if not any(symbol.endswith("@@") for symbol in dictionary.symbols):
        raise UserError(f"{codes} does not fit the dictionary, in which no subword ends with @@")
    shutil.copyfile(codes, folder / "bpe.codes")
    if vocabulary is not None:
        shutil.copyfile(_file(vocabulary, "BPE's vocabulary"), folder / "bpe.vocabulary")
    settings = {
        "method": "subword-nmt",
        "codes": "bpe.codes",
        "vocabulary": vocabulary and "bpe.vocabulary",
        "vocabulary_threshold": threshold,
    }
    return settings, [requirement("subword-nmt")]


def _none(
    segmentation: Mapping[str, Any], folder: Path, dictionary: Dictionary
) -> tuple[dict[str, Any], list[str]]:
    del segmentation, folder, dictionary  # what the others need
    return {"method": "none"}, []


_INSTALLERS = {"sentencepiece": _sentencepiece, "subword-nmt": _subword_nmt, "none": _none}


def _file(path: str | Path | None, what: str) -> Path:
    if path is None or not Path(path).is_file():
        raise UserError(f"{what}: no file at {path}")
    return Path(path)


def _check_share(path: Path, dictionary: Dictionary, pieces: set[str]) -> None:
    """Else every subword would be unknown to the model, which translates such text all the same."""
    types = [symbol for symbol in dictionary.symbols if not _SPECIAL.fullmatch(symbol)]
    share = sum(symbol in pieces for symbol in types) / max(1, len(types))
    if share < _LEAST_SHARED:
        raise UserError(
            f"{path} has only {share:.0%} of the dictionary's types: it is not what the model's "
            "text was segmented with"
        )
