"""Install the segmentation of raw text in an exported folder: files and settings."""

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
# The usual settings of Moses' tokenizer, as in fairseq's recipes.
MOSES = {"normalize": True, "aggressive_dash_splits": True, "escape": True}

_KEYS = {
    "sentencepiece": ("model",),
    "subword-nmt": ("codes", "vocabulary", "vocabulary_threshold"),
    "none": (),
}
_COMMON_KEYS = ("method", "moses", "unicode_form")
_SPECIAL = re.compile(r"<(s|pad|/s|unk)>|madeupword\d+")
_LEAST_SHARED = 0.5
"""At least this share of the dictionary's types must be in the segmentation's vocabulary."""


def install(
    segmentation: Mapping[str, Any],
    folder: Path,
    languages: tuple[str | None, str | None],
    dictionary: Dictionary,
) -> tuple[dict[str, Any], list[str]]:
    """Copy the files for segmentation to a folder.

    Args:
        segmentation: as for `ka_fairseq.export.export_folder`.
        folder: the destination.
        languages: source and target; Moses' rules depend on them.
        dictionary: the source dictionary, which must fit the segmentation.

    Returns:
        The settings `segmentation`, `moses` and `unicode_form` of ``translate.json``, and the
        lines of requirements.txt.

    Raises:
        UserError: a key or a value is unknown, a file is missing, or segmentation and dictionary
            belong to different models.
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
    """Return a line for requirements.txt: at least the installed version, below the next major.

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
            "Moses' rules depend on the languages, and the checkpoint does not name them: give "
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
    except Exception as error:  # protobuf's error class depends on its implementation
        raise UserError(f"{path} is no model of sentencepiece: {error}") from None
    _check_share(path, dictionary, {piece.piece for piece in model.pieces})
    # These fields hold paths of the machine that trained the model.
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
        raise UserError("a BPE vocabulary needs its threshold: give both, or leave both out")
    if not any(symbol.endswith("@@") for symbol in dictionary.symbols):
        raise UserError(
            f"{codes} does not fit the dictionary, where no subword ends with @@: give the "
            "segmentation of the training text"
        )
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
    del segmentation, folder, dictionary  # only the other methods need them
    return {"method": "none"}, []


_INSTALLERS = {"sentencepiece": _sentencepiece, "subword-nmt": _subword_nmt, "none": _none}


def _file(path: str | Path | None, what: str) -> Path:
    if path is None or not Path(path).is_file():
        raise UserError(f"{what}: no file at {path}")
    return Path(path)


def _check_share(path: Path, dictionary: Dictionary, pieces: set[str]) -> None:
    """Refuse a segmentation of another model: it lacks many of the dictionary's types."""
    types = [symbol for symbol in dictionary.symbols if not _SPECIAL.fullmatch(symbol)]
    share = sum(symbol in pieces for symbol in types) / max(1, len(types))
    if share < _LEAST_SHARED:
        raise UserError(
            f"{path} has only {share:.0%} of the dictionary's types: give the file that segmented "
            "the model's training text"
        )
