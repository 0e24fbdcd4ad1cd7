"""``--to ctranslate2``: a folder that translates raw text with neither fairseq nor torch."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ka_fairseq.export import dictionaries
from ka_fairseq.export.ctranslate2_model import QUANTIZATIONS
from ka_fairseq.export.folder import export_folder
from ka_fairseq.export.segmentation import UNICODE_FORMS

WHAT = "a folder that translates raw text with neither fairseq nor torch"


def add_options(parser: Any) -> None:
    """Add the options of this target."""
    parser.add_argument(
        "--data", type=Path, help="folder with the model's dict.LANG.txt, as fairseq-train had it"
    )
    parser.add_argument("--source-lang", help="where the names of its files do not tell it")
    parser.add_argument("--target-lang", help="likewise")
    parser.add_argument(
        "--quantization", choices=QUANTIZATIONS, help="of the weights (default: int8)"
    )
    parser.add_argument("--beam", type=int, help="the translator's default (default: 6)")
    parser.add_argument("--lenpen", type=float, help="length penalty, as fairseq's (default: 1)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--sentencepiece", type=Path, metavar="MODEL", help="sentencepiece's model")
    how.add_argument("--bpe-codes", type=Path, metavar="CODES", help="subword-nmt's codes")
    how.add_argument(
        "--no-segmentation", action="store_true", help="the model reads words as they are"
    )
    _add_bpe(parser)
    _add_moses(parser)
    parser.add_argument(
        "--unicode-form", choices=UNICODE_FORMS, help="normalize Unicode before all"
    )


def _add_bpe(parser: Any) -> None:
    parser.add_argument(
        "--bpe-vocabulary", type=Path, metavar="FILE", help="the source's, of subword-nmt"
    )
    parser.add_argument(
        "--bpe-vocabulary-threshold",
        type=int,
        metavar="N",
        help="rarer subwords of it are split further, as in training",
    )


def _add_moses(parser: Any) -> None:
    parser.add_argument(
        "--moses",
        action="store_true",
        help="normalize punctuation and tokenize first, as Moses does, and undo it at the end",
    )
    for option, part, what in (
        ("--moses-no-normalization", "normalize", "leave punctuation as it is"),
        ("--moses-no-dash-splits", "aggressive_dash_splits", "as fairseq-interactive's"),
        ("--moses-no-escape", "escape", "likewise"),
    ):
        parser.add_argument(
            option, action="append_const", dest="moses_without", const=part, help=what
        )


def export_to(checkpoint: Path, target: Path, given: Mapping[str, Any]) -> None:
    """Write the folder.

    Raises:
        ArgumentTypeError: an option is missing, or options do not go together.
    """
    if "data" not in given:
        raise ArgumentTypeError(
            "--to ctranslate2 needs --data, the folder with the model's dict.LANG.txt"
        )
    how = _segmentation(given)
    languages = dictionaries.find_languages(
        given["data"], given.get("source_lang"), given.get("target_lang")
    )
    export_folder(
        checkpoint,
        target,
        dictionaries=dictionaries.paths(given["data"], languages),
        segmentation=how,
        languages=languages,
        **{key: given[key] for key in ("quantization", "beam", "lenpen") if key in given},
    )


def _segmentation(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of segmentation as `export_folder` wants them."""
    without = given.get("moses_without", [])
    if without and "moses" not in given:
        raise ArgumentTypeError(
            "--moses-no-normalization, --moses-no-dash-splits and --moses-no-escape have no "
            "meaning without --moses"
        )
    moses = dict.fromkeys(without, False) or given.get("moses")
    return {"unicode_form": given.get("unicode_form"), "moses": moses, **_method(given)}


def _method(given: Mapping[str, Any]) -> dict[str, Any]:
    vocabulary, threshold = (given.get(f"bpe_vocabulary{suffix}") for suffix in ("", "_threshold"))
    if "bpe_codes" in given:
        method = {"method": "subword-nmt", "codes": given["bpe_codes"]}
        return {**method, "vocabulary": vocabulary, "vocabulary_threshold": threshold}
    if vocabulary is not None or threshold is not None:
        raise ArgumentTypeError(
            "--bpe-vocabulary and --bpe-vocabulary-threshold have no meaning without --bpe-codes"
        )
    if "sentencepiece" in given:
        return {"method": "sentencepiece", "model": given["sentencepiece"]}
    if "no_segmentation" in given:
        return {"method": "none"}
    raise ArgumentTypeError(
        "--to ctranslate2 needs to know how the text was segmented: one of --sentencepiece, "
        "--bpe-codes, --no-segmentation"
    )
