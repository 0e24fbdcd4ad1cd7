"""The command line: fairseq-generate's options, as far as they mean something here, and more."""

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
Have a teacher translate the training source of a data-bin, choose one of its translations for each
sentence, and write a data-bin of them: the same dictionaries, valid and test, and a training split
of its own. Any command of fairseq's takes it. A run that was cut off goes on where it was.
"""
EPILOG = f"""\
examples:
  {PROGRAM} data-bin --path teacher.pt --destdir distilled
  {PROGRAM} data-bin --path a.pt:b.pt --destdir distilled --choose closest:1,best:1
  {PROGRAM} data-bin --path teacher.pt --destdir distilled --shard 1/2   # and, elsewhere, 2/2; then
  {PROGRAM} data-bin --path teacher.pt --destdir distilled --merge
"""

# What of fairseq-generate's other options is looked at.
_KEPT = (
    *("help", "data", "path", "source_lang", "target_lang", "gen_subset", "dataset_impl"),
    *("left_pad_source", "left_pad_target", "max_source_positions", "max_target_positions"),
    *("truncate_source", "upsample_primary", "post_process", "model_overrides"),
    *("max_tokens", "seed", "cpu", "fp16", "user_dir"),
)


@dataclass
class DistillConfig(FairseqDataclass):
    """What fairseq-generate does not have."""

    destdir: Optional[str] = field(default=None, metadata={"help": "the data-bin to write"})
    choose: str = field(
        default="closest",
        metadata={
            "help": "closest: the translation nearest to the reference; best: what the teacher "
            "scores best; mbr: the one nearest to the others; or several, with how often each pair "
            "counts: closest:1,best:1"
        },
    )
    metric: ChoiceEnum(list(METRICS)) = field(
        default="chrf", metadata={"help": "what closest and mbr measure by, of a sentence"}
    )
    keep_references: int = field(
        default=0, metadata={"help": "how often the pairs of the data-bin itself are there, too"}
    )
    mono: Optional[str] = field(
        default=None,
        metadata={
            "help": "source text without translations: the prefix of a data-bin's files, as "
            "mono-bin/train, or a file of subwords; closest takes the best there"
        },
    )
    sentencepiece: bool = field(
        default=False, metadata={"help": "the same as --remove-bpe sentencepiece"}
    )
    engine: ChoiceEnum(list(ENGINES)) = field(
        default=AUTO,
        metadata={"help": "auto: CTranslate2, and fairseq's generator where that cannot"},
    )
    quantization: ChoiceEnum(list(QUANTIZATIONS)) = field(
        default="float32", metadata={"help": "of CTranslate2's weights"}
    )
    threads: int = field(default=0, metadata={"help": "0: as many as there are cores"})
    longest_source: int = field(
        default=250, metadata={"help": "longer sources, in subwords, are not translated"}
    )
    translations: Optional[str] = field(
        default=None,
        metadata={"help": "where the n best are kept (default: DESTDIR/translations)"},
    )
    per_file: int = field(
        default=2000,
        metadata={"help": "sentences a file of translations; a kill loses one file at most"},
    )
    shard: Optional[str] = field(
        default=None,
        metadata={"help": "translate one share of several, as 1/4, and write no data-bin"},
    )
    merge: bool = field(
        default=False,
        metadata={"help": "write the data-bin of shares that are all there; translate nothing"},
    )
    max_ratio: float = field(
        default=3.0,
        metadata={
            "help": "leave out pairs one side of which has more times the other's subwords; 0: none"
        },
    )
    max_repeats: int = field(
        default=2,
        metadata={
            "help": "leave out translations that repeat four subwords so many times more than the "
            "source; 0: none"
        },
    )
    keep_copies: bool = field(
        default=False, metadata={"help": "keep translations that are the source"}
    )
    keep_duplicates: bool = field(default=False, metadata={"help": "keep pairs that came before"})


_OWN = tuple(f.name for f in fields(DistillConfig) if not f.name.startswith("_"))


@dataclass(frozen=True)
class Settings:
    """A command line, read.

    Attributes:
        cfg: fairseq-generate's configuration.
        own: what fairseq-generate does not have.
        choose: the choosers with how often each pair counts.
        search: how to translate.
        filters: what is left out.
        share: what of the translating this process does.
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
        UserError: an option is missing, or does not go with another one.
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
        help="as --nbest: translations of a sentence that are kept (default: as many as --beam)",
    )
    if {"-h", "--help"} & set(argv):  # fairseq would print it before it knows the task's options
        options.parse_args_and_arch(parser, ["DATA"], modify_parser=_narrow)
        parser.parse_args(["--help"])
    args = options.parse_args_and_arch(parser, list(argv), modify_parser=_narrow)
    _check_known(parser, argv)
    with warnings.catch_warnings():  # Hydra's, of how fairseq calls it
        warnings.simplefilter("ignore")
        cfg = convert_namespace_to_omegaconf(args)
    return _settings(cfg, DistillConfig(**{name: getattr(args, name) for name in _OWN}))


def _narrow(parser: argparse.ArgumentParser) -> None:
    """Give defaults of this command, and leave what is not looked at out of the help."""
    parser.set_defaults(gen_subset="train", nbest=0, max_len_a=1.5, max_len_b=20, max_tokens=4000)
    for action in parser._actions:
        if action.dest not in _known():
            action.help = argparse.SUPPRESS


def _known() -> set[str]:
    return {*_KEPT, *OPTIONS, *_OWN}


def _check_known(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Refuse an option that would be read and have no effect."""
    for word in argv:
        option = word.partition("=")[0]
        action = parser._option_string_actions.get(option)
        if action is not None and action.dest not in _known():
            raise UserError(f"{PROGRAM} has no {option}: leave it out; --help lists the options")


def _settings(cfg: Any, own: DistillConfig) -> Settings:
    if not cfg.task.data:
        raise UserError("give the data-bin, as fairseq-preprocess wrote it")
    if not cfg.common_eval.path:
        raise UserError("give the teacher: --path teacher.pt[:teacher2.pt…]")
    if own.destdir is None and (own.shard is None or own.translations is None):
        raise UserError("say where the data-bin shall be: --destdir FOLDER")
    if own.merge and own.shard:
        raise UserError("--shard translates and --merge writes: give one of them")
    if own.sentencepiece:
        cfg.common_eval.post_process = "sentencepiece"
    for name in ("keep_references", "threads", "max_repeats", "max_ratio"):
        if getattr(own, name) < 0:
            raise UserError(f"--{name.replace('_', '-')}: give a number from 0 up")
    if own.per_file < 1:
        raise UserError("--per-file: give a number from 1 up")
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
                f"--choose {text}: give each of {', '.join(chooser_names())} once, with a number "
                "from 1 up after a colon: closest:1,best:1"
            )
        found[name] = int(times) if colon else 1
    return tuple(found.items())
