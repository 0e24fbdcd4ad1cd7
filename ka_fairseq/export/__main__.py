"""``python -m ka_fairseq.export``: a checkpoint for plain fairseq, or for CTranslate2.

A file for plain fairseq, or, with ``--to ctranslate2``, a folder that translates without fairseq.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ka_fairseq.export import dictionaries, segmentation
from ka_fairseq.export.ctranslate2_model import QUANTIZATIONS
from ka_fairseq.export.folder import export_folder
from ka_fairseq.export.plain import export

FORMATS = ("fairseq", "ctranslate2")


def main() -> None:
    """Parse the command line and export."""
    parser = _parser()
    args = parser.parse_args()
    given = vars(args)
    other = _CTRANSLATE2_ONLY if args.to == "fairseq" else _FAIRSEQ_ONLY
    if misplaced := [name for name in other if name in given]:
        option = misplaced[0].replace("_", "-")
        parser.error(f"--{option} has no meaning with --to {args.to}")
    if args.to == "fairseq":
        half, no_folders = (given.get(name, False) for name in _FAIRSEQ_ONLY)
        export(args.checkpoint, args.target, half=half, folders=not no_folders)
        return
    if "data" not in given:
        parser.error("--to ctranslate2 needs --data, the folder with the model's dict.LANG.txt")
    how = _segmentation(parser, given)
    languages = dictionaries.find_languages(
        args.data, given.get("source_lang"), given.get("target_lang")
    )
    export_folder(
        args.checkpoint,
        args.target,
        dictionaries=dictionaries.paths(args.data, languages),
        segmentation=how,
        languages=languages,
        **{key: given[key] for key in ("quantization", "beam", "lenpen") if key in given},
    )


_FAIRSEQ_ONLY = ("half", "no_folders")
_SEGMENTATIONS = ("sentencepiece", "bpe_codes", "no_segmentation")
_MOSES_OFF = {
    "moses_no_normalization": "normalize",
    "moses_no_dash_splits": "aggressive_dash_splits",
    "moses_no_escape": "escape",
}
_CTRANSLATE2_ONLY = (
    *("data", "source_lang", "target_lang", "quantization", "beam", "lenpen"),
    *(*_SEGMENTATIONS, "bpe_vocabulary", "bpe_vocabulary_threshold", "unicode_form", "moses"),
    *_MOSES_OFF,
)


def _segmentation(parser: argparse.ArgumentParser, given: dict[str, Any]) -> dict[str, Any]:
    """The options of segmentation as `export_folder` wants them."""
    if not any(name in given for name in _SEGMENTATIONS):
        options = ", ".join(f"--{name.replace('_', '-')}" for name in _SEGMENTATIONS)
        parser.error(f"--to ctranslate2 needs to know how the text was segmented: one of {options}")
    off = [name for name in _MOSES_OFF if name in given]
    if off and "moses" not in given:
        parser.error(f"--{off[0].replace('_', '-')} has no meaning without --moses")
    bpe = [name for name in ("bpe_vocabulary", "bpe_vocabulary_threshold") if name in given]
    if bpe and "bpe_codes" not in given:
        parser.error(f"--{bpe[0].replace('_', '-')} has no meaning without --bpe-codes")
    settings: dict[str, Any] = {"unicode_form": given.get("unicode_form")}
    if "moses" in given:
        settings["moses"] = {_MOSES_OFF[name]: False for name in off} or True
    if "sentencepiece" in given:
        return {**settings, "method": "sentencepiece", "model": given["sentencepiece"]}
    if "no_segmentation" in given:
        return {**settings, "method": "none"}
    return {
        **settings,
        "method": "subword-nmt",
        "codes": given["bpe_codes"],
        "vocabulary": given.get("bpe_vocabulary"),
        "vocabulary_threshold": given.get("bpe_vocabulary_threshold"),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ka_fairseq.export",
        description="Write a checkpoint that plain fairseq loads, without --user-dir; or, with "
        "--to ctranslate2, a folder that translates raw text with neither fairseq nor torch.",
        argument_default=argparse.SUPPRESS,  # which options were given tells which go together
    )
    parser.add_argument("checkpoint", type=Path, help="written by fairseq-train")
    parser.add_argument("target", type=Path, help="file to write; folder with --to ctranslate2")
    parser.add_argument("--to", choices=FORMATS, default="fairseq", help="default: %(default)s")
    plain = parser.add_argument_group("--to fairseq")
    plain.add_argument(
        "--half", action="store_true", help="round the weights to fp16, for half the file"
    )
    plain.add_argument(
        "--no-folders",
        action="store_true",
        help="leave the names of folders on this machine (data, save_dir, user_dir) out",
    )
    _add_ctranslate2(parser.add_argument_group("--to ctranslate2"))
    return parser


def _add_ctranslate2(group: Any) -> None:
    group.add_argument(
        "--data", type=Path, help="folder with the model's dict.LANG.txt, as fairseq-train had it"
    )
    group.add_argument("--source-lang", help="where the names of its files do not tell it")
    group.add_argument("--target-lang", help="likewise")
    group.add_argument(
        "--quantization", choices=QUANTIZATIONS, help="of the weights (default: int8)"
    )
    group.add_argument("--beam", type=int, help="the translator's default (default: 6)")
    group.add_argument("--lenpen", type=float, help="length penalty, as fairseq's (default: 1)")
    how = group.add_mutually_exclusive_group()
    how.add_argument("--sentencepiece", type=Path, metavar="MODEL", help="sentencepiece's model")
    how.add_argument("--bpe-codes", type=Path, metavar="CODES", help="subword-nmt's codes")
    how.add_argument(
        "--no-segmentation", action="store_true", help="the model reads words as they are"
    )
    group.add_argument(
        "--bpe-vocabulary", type=Path, metavar="FILE", help="the source's, of subword-nmt"
    )
    group.add_argument(
        "--bpe-vocabulary-threshold",
        type=int,
        metavar="N",
        help="rarer subwords of it are split further, as in training",
    )
    group.add_argument(
        "--moses",
        action="store_true",
        help="normalize punctuation and tokenize first, as Moses does, and undo it at the end",
    )
    group.add_argument(
        "--moses-no-normalization", action="store_true", help="leave punctuation as it is"
    )
    group.add_argument(
        "--moses-no-dash-splits", action="store_true", help="as fairseq-interactive's"
    )
    group.add_argument("--moses-no-escape", action="store_true", help="likewise")
    group.add_argument(
        "--unicode-form", choices=segmentation.UNICODE_FORMS, help="normalize Unicode before all"
    )


if __name__ == "__main__":
    main()
