"""Parse the command line: some options of fairseq-generate, and options of this command."""

# fairseq makes command-line options from real types of the form Optional[...].
# ruff: noqa: UP045

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Optional

from fairseq import options
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.dataclass.utils import convert_namespace_to_omegaconf, gen_parser_from_dataclass

from ka_fairseq.distill.choosers import chooser_named, chooser_names
from ka_fairseq.distill.engines import AUTO, ENGINES
from ka_fairseq.distill.filters import Filters
from ka_fairseq.distill.nearness import METRICS
from ka_fairseq.distill.search import OPTIONS, Search
from ka_fairseq.errors import UserError
from ka_fairseq.export.ctranslate2_model import QUANTIZATIONS
from ka_fairseq.teacher.cache.share import ALL, Share

PROGRAM = "python -m ka_fairseq.distill"
DESCRIPTION = """\
Translate the training source of a data-bin with a teacher. Choose one translation for each
sentence. Write a new data-bin with the chosen translations as its training split, and with the same
dictionaries, valid and test. All fairseq commands read the new data-bin. An interrupted run
continues where it stopped.
"""
EPILOG = f"""\
examples:
  {PROGRAM} data-bin --path teacher.pt --destdir distilled
  {PROGRAM} data-bin --path a.pt:b.pt --destdir distilled --choose closest:1,best:1
  {PROGRAM} data-bin --path teacher.pt --destdir distilled --shard 1/2   # and, elsewhere, 2/2; then
  {PROGRAM} data-bin --path teacher.pt --destdir distilled --merge
"""

# Options of fairseq-generate that have an effect here, besides those of the search.
_KEPT = (
    *("help", "data", "path", "source_lang", "target_lang", "gen_subset", "dataset_impl"),
    *("left_pad_source", "left_pad_target", "max_source_positions", "max_target_positions"),
    *("truncate_source", "upsample_primary", "post_process", "model_overrides"),
    *("max_tokens", "seed", "cpu", "fp16", "user_dir"),
)


@dataclass
class DistillConfig(FairseqDataclass):
    """Options that fairseq-generate does not have."""

    destdir: Optional[str] = field(default=None, metadata={"help": "the data-bin to write"})
    choose: str = field(
        default="closest",
        metadata={
            "help": "closest: the translation most similar to the reference; best: the translation "
            "with the teacher's best score; mbr: the translation most similar to the other "
            "translations; several choosers, each with the number of copies: closest:1,best:1"
        },
    )
    metric: ChoiceEnum(list(METRICS)) = field(
        default="chrf", metadata={"help": "sentence metric for closest and mbr"}
    )
    keep_references: int = field(
        default=0, metadata={"help": "copies of the original pairs in the new training split"}
    )
    mono: Optional[str] = field(
        default=None,
        metadata={
            "help": "source text without translations: the prefix of a data-bin's files, such as "
            "mono-bin/train, or a file of subwords; for this text closest is the same as best"
        },
    )
    sentencepiece: bool = field(
        default=False, metadata={"help": "the same as --remove-bpe sentencepiece"}
    )
    engine: ChoiceEnum(list(ENGINES)) = field(
        default=AUTO,
        metadata={"help": "auto: CTranslate2, or fairseq's generator for unsupported models"},
    )
    quantization: ChoiceEnum(list(QUANTIZATIONS)) = field(
        default="float32", metadata={"help": "type of CTranslate2's weights"}
    )
    threads: int = field(default=0, metadata={"help": "number of threads; 0: one per core"})
    longest_source: int = field(
        default=250, metadata={"help": "leave out sources with more subwords than this number"}
    )
    translations: Optional[str] = field(
        default=None,
        metadata={"help": "folder for the n best (default: DESTDIR/translations)"},
    )
    per_file: int = field(
        default=2000,
        metadata={"help": "sentences in a file of translations; a kill loses at most one file"},
    )
    shard: Optional[str] = field(
        default=None,
        metadata={"help": "translate one share of several, such as 1/4; write no data-bin"},
    )
    merge: bool = field(
        default=False,
        metadata={"help": "write the data-bin after all shares are done; translate nothing"},
    )
    max_ratio: float = field(
        default=3.0,
        metadata={"help": "leave out pairs with a greater length ratio, in subwords; 0: keep all"},
    )
    max_repeats: int = field(
        default=2,
        metadata={
            "help": "leave out translations whose most frequent run of four subwords occurs at "
            "least this many more times than the source's; 0: keep all"
        },
    )
    keep_copies: bool = field(
        default=False, metadata={"help": "keep translations that are equal to their source"}
    )
    keep_duplicates: bool = field(default=False, metadata={"help": "keep repeated pairs"})


_OWN = tuple(f.name for f in fields(DistillConfig) if not f.name.startswith("_"))


@dataclass(frozen=True)
class Settings:
    """The settings from a command line.

    Attributes:
        cfg: fairseq-generate's configuration.
        own: options that fairseq-generate does not have.
        choose: the choosers, each with the number of copies of its pairs.
        search: the options of the search.
        filters: the filters for translations.
        share: the part of the translation that this process does.
    """

    cfg: Any
    own: DistillConfig
    choose: tuple[tuple[str, int], ...]
    search: Search
    filters: Filters
    share: Share


def parse(argv: Sequence[str]) -> Settings:
    """Read a command line.

    Raises:
        UserError: an option is missing, or does not fit another option.
    """
    parser = options.get_generation_parser()
    parser.prog, parser.description, parser.epilog = PROGRAM, DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    group = parser.add_argument_group("Distillation")
    gen_parser_from_dataclass(group, DistillConfig())
    group.add_argument(
        "--n-best",
        dest="nbest",
        type=int,
        default=argparse.SUPPRESS,
        help="the same as --nbest: translations kept for each sentence (default: --beam)",
    )
    if {"-h", "--help"} & set(argv):  # fairseq would print the help without the task's options
        options.parse_args_and_arch(parser, ["DATA"], modify_parser=_narrow)
        parser.parse_args(["--help"])
    args = options.parse_args_and_arch(parser, list(argv), modify_parser=_narrow)
    _check_known(parser, argv)
    with warnings.catch_warnings():  # Hydra warns about fairseq's calls
        warnings.simplefilter("ignore")
        cfg = convert_namespace_to_omegaconf(args)
    return _settings(cfg, DistillConfig(**{name: getattr(args, name) for name in _OWN}))


def _narrow(parser: argparse.ArgumentParser) -> None:
    """Set the defaults of this command, and hide unused options of fairseq from the help."""
    parser.set_defaults(gen_subset="train", nbest=0, max_len_a=1.5, max_len_b=20, max_tokens=4000)
    for action in parser._actions:
        if action.dest not in _known():
            action.help = argparse.SUPPRESS


def _known() -> set[str]:
    return {*_KEPT, *OPTIONS, *_OWN}


def _check_known(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Refuse an option that would have no effect."""
    for word in argv:
        option = word.partition("=")[0]
        action = parser._option_string_actions.get(option)
        if action is not None and action.dest not in _known():
            raise UserError(f"{PROGRAM} has no {option}: leave it out; --help lists the options")


def _settings(cfg: Any, own: DistillConfig) -> Settings:
    if not cfg.task.data:
        raise UserError("give a data-bin that fairseq-preprocess wrote")
    if not cfg.common_eval.path:
        raise UserError("give the teacher: --path teacher.pt[:teacher2.pt…]")
    if own.destdir is None and (own.shard is None or own.translations is None):
        raise UserError("give the folder for the new data-bin: --destdir FOLDER")
    if own.merge and own.shard:
        raise UserError("--shard only translates, --merge only writes: give one of them")
    if own.sentencepiece:
        cfg.common_eval.post_process = "sentencepiece"
    for name in ("keep_references", "threads", "max_repeats", "max_ratio"):
        if getattr(own, name) < 0:
            raise UserError(f"--{name.replace('_', '-')}: give 0 or more")
    if own.per_file < 1:
        raise UserError("--per-file: give 1 or more")
    cfg.generation.nbest = cfg.generation.nbest or cfg.generation.beam
    search = Search(cfg.generation, own.longest_source, cfg.dataset.max_tokens, cfg.common.seed)
    filters = Filters(
        own.max_ratio or None, own.max_repeats or None, not own.keep_copies, not own.keep_duplicates
    )
    share = _share(own.shard) if own.shard else ALL
    return Settings(cfg, own, _choose(own.choose), search.checked(), filters, share)


def _share(text: str) -> Share:
    try:
        return Share.parse(text)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--shard: {error}") from None


def _choose(text: str) -> tuple[tuple[str, int], ...]:
    """Read ``closest:1,best:2``."""
    found: dict[str, int] = {}
    for part in text.split(","):
        name, colon, times = part.partition(":")
        chooser_named(name)
        if name in found or (colon and not (times.isdecimal() and int(times))):
            raise UserError(
                f"--choose {text}: give each of {', '.join(chooser_names())} at most once, with a "
                "number of 1 or more after a colon: closest:1,best:1"
            )
        found[name] = int(times) if colon else 1
    return tuple(found.items())
