"""``--to ctranslate2``: a folder that translates raw text without fairseq and torch."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ka_fairseq.export import dictionaries
from ka_fairseq.export.ctranslate2_model import QUANTIZATIONS
from ka_fairseq.export.folder import export_folder
from ka_fairseq.export.segmentation import UNICODE_FORMS

WHAT = "a folder that translates raw text without fairseq and torch"


def add_options(parser: Any) -> None:
    """Add the options of this target."""
    parser.add_argument(
        "--data", type=Path, help="folder with the model's dict.LANG.txt, as for fairseq-train"
    )
    parser.add_argument(
        "--source-lang", help="source language (default: from the file names in --data)"
    )
    parser.add_argument(
        "--target-lang", help="target language (default: from the file names in --data)"
    )
    parser.add_argument(
        "--quantization", choices=QUANTIZATIONS, help="type of the weights (default: int8)"
    )
    parser.add_argument("--beam", type=int, help="beam of the translator (default: 6)")
    parser.add_argument("--lenpen", type=float, help="length penalty, as in fairseq (default: 1)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--sentencepiece", type=Path, metavar="MODEL", help="model of sentencepiece")
    how.add_argument("--bpe-codes", type=Path, metavar="CODES", help="codes of subword-nmt")
    how.add_argument(
        "--no-segmentation", action="store_true", help="the model reads words without segmentation"
    )
    _add_bpe(parser)
    _add_moses(parser)
    parser.add_argument(
        "--unicode-form", choices=UNICODE_FORMS, help="normalize Unicode before all other steps"
    )


def _add_bpe(parser: Any) -> None:
    parser.add_argument(
        "--bpe-vocabulary", type=Path, metavar="FILE", help="source vocabulary of subword-nmt"
    )
    parser.add_argument(
        "--bpe-vocabulary-threshold",
        type=int,
        metavar="N",
        help="split subwords that are rarer than N in the vocabulary, as in training",
    )


def _add_moses(parser: Any) -> None:
    parser.add_argument(
        "--moses",
        action="store_true",
        help="normalize punctuation and tokenize as Moses does; detokenize the translations",
    )
    for option, part, what in (
        ("--moses-no-normalization", "normalize", "keep punctuation unchanged"),
        ("--moses-no-dash-splits", "aggressive_dash_splits", "apply no rules for dashes"),
        ("--moses-no-escape", "escape", "do not escape quotes and other signs for HTML"),
    ):
        parser.add_argument(
            option, action="append_const", dest="moses_without", const=part, help=what
        )


def export_to(checkpoint: Path, target: Path, given: Mapping[str, Any]) -> None:
    """Write the folder.

    Raises:
        ArgumentTypeError: an option is missing, or options do not fit together.
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
    """Return the options of segmentation in the form that `export_folder` takes."""
    without = given.get("moses_without", [])
    if without and "moses" not in given:
        raise ArgumentTypeError(
            "--moses-no-normalization, --moses-no-dash-splits and --moses-no-escape need --moses: "
            "give it, or leave them out"
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
            "--bpe-vocabulary and --bpe-vocabulary-threshold need --bpe-codes: give it, or leave "
            "them out"
        )
    if "sentencepiece" in given:
        return {"method": "sentencepiece", "model": given["sentencepiece"]}
    if "no_segmentation" in given:
        return {"method": "none"}
    raise ArgumentTypeError(
        "--to ctranslate2 needs the segmentation of the text: give one of --sentencepiece, "
        "--bpe-codes, --no-segmentation"
    )
