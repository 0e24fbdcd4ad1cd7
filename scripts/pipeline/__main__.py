"""The command line of the pipeline."""

from __future__ import annotations

import argparse
import shlex
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace

from pipeline import cli, compare, stages, submit
from pipeline.engine import schedule, state
from pipeline.engine.devices import Slot
from pipeline.engine.errors import PipelineError
from pipeline.engine.stage import Stage
from pipeline.models import model_list, settings

_USAGE = """\
scripts/pipeline.sh PAIR [STAGE ...] [--quick] [--force] [--runs DIR] [--archives DIR]
                           [--train-teacher] [--all]
       scripts/pipeline.sh --data DIR --src LANG --tgt LANG --config DIR [STAGE ...]"""

_STAGES = textwrap.fill(
    " ".join(stages.names(model_list.merged(settings.common_models(), None, settings.CONFIGS))),
    width=98,
    initial_indent="  ",
    subsequent_indent="  ",
    break_on_hyphens=False,
)

_EPILOG = f"""\
stages, in their order (where none is named: all but those of models that are not trained by
default; --all trains these too):
{_STAGES}

A stage that is done is skipped, one that was cut off goes on from where it was. Each training
stage runs fairseq-hydra-train with the config of its name. Stages that do not need each other run
side by side (--jobs); one that fails stops those that need it, and lets the others end. All output
goes to runs/PAIR/: the table is in report.md, what each stage printed is in logs/.

In the environment: GPUS, how many to train one model on (by default as many as divide the config's
update_freq, which they share, so that the batch stays the same); UPDATE_FREQ, each GPU's, for
another batch; LAUNCHER, what starts a training on several nodes (examples/slurm/).

examples:
  scripts/pipeline.sh demo
  scripts/pipeline.sh demo ka evaluate report --force
  scripts/pipeline.sh demo --jobs 1 --threads 2
  scripts/pipeline.sh demo --seeds 3
  scripts/pipeline.sh demo seq_kd evaluate report
  scripts/pipeline.sh demo translate --shard 2/4
  scripts/pipeline.sh demo cache --shard 2/4
  scripts/pipeline.sh wmt17_de_en --submit --shares 8 --sbatch-gpu=--gpus=1
  scripts/pipeline.sh --data ~/corpus --src de --tgt en --config configs/demo

DIR holds train, valid and test, each as .LANG or .LANG.gz, a sentence a line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stages that the command line names; return the exit code."""
    arguments = _parser().parse_intermixed_args(argv)
    return cli.run(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    pair, words = _pair_and_stages(arguments)
    if arguments.shard:
        _run_share(pair, words, arguments)
        return
    chosen = stages.chosen(pair, words)
    if arguments.seeds:
        if words:
            raise PipelineError("--seeds goes with all stages: name none")
        compared = compare.planned(pair, seeds=arguments.seeds).stages(compare.report)
        # Its report comes after the comparison, and has it as a section.
        own = {stage.name: stage for stage in chosen}
        chosen = list((own | {stage.name: stage for stage in compared}).values())
    if arguments.submit:
        _submit(pair, chosen, arguments)
        return
    names = {stage.name for stage in chosen}
    slots = [Slot()]
    if not names <= {"prepare", "binarize"}:  # what comes later reads torch in, for a second
        trainings = [training for training in stages.trainings(pair) if training.name in names]
        slots = cli.slots(arguments, pair, trainings)
    with state.locked(pair.run_dir, shared=arguments.beside):
        schedule.run(pair, chosen, slots, force=arguments.force)


def _submit(pair: settings.Pair, chosen: Sequence[Stage], arguments: argparse.Namespace) -> None:
    """Submit the stages as jobs of SLURM; each job is this command line with its own stages."""
    for option in ("force", "seeds", "beside"):
        if getattr(arguments, option):
            raise PipelineError(f"--{option} does not go with --submit: leave one of them out")
    schedule.check(pair, chosen)
    values = ("archives", "data", "src", "tgt", "config", "name", "runs", "jobs", "threads")
    flags = [f"--{arguments.variant}"] if arguments.variant else []
    flags += ["--train-teacher"] if arguments.train_teacher else []
    flags += ["--all"] if arguments.all else []
    given = [] if arguments.data else [arguments.words[0]]
    command = submit.command_line({f"--{v}": getattr(arguments, v) for v in values}, flags)
    submission = submit.Submission(
        pair.run_dir,
        pair.name,
        [command[0], *given, *command[1:]],
        shares=arguments.shares,
        options=shlex.split(arguments.sbatch),
        with_gpu=shlex.split(arguments.sbatch_gpu),
    )
    submission.submit(chosen)


def _run_share(pair: settings.Pair, words: list[str], arguments: argparse.Namespace) -> None:
    """Do one of the shares of a teacher's translations or answers, beside others that do theirs."""
    found = stages.shared(pair, words)
    slot = cli.slots(arguments, pair, [])[0]
    with state.locked(pair.run_dir, shared=True):
        for work in found:
            work.run_share(replace(pair, slot=slot), arguments.shard)


def _share(text: str) -> tuple[int, int]:
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise argparse.ArgumentTypeError(f"{text} is not like 2/4")
    return int(number), int(of)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/pipeline.sh",
        usage=_USAGE,
        description="From text to a table of scores: a teacher, a learner, and the learner "
        "fine-tuned with each criterion.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="PAIR [STAGE ...]",
        help=f"pair ({', '.join(settings.names())}), then stages; with --data stages only",
    )
    parser.add_argument("--force", action="store_true", help="redo the named stages")
    cli.add_run_options(
        parser,
        quick="a few steps on little text, to see that all works; the run is named PAIR-quick",
    )
    parser.add_argument(
        "--seeds",
        type=cli.from_one,
        metavar="N",
        help="compare all fine-tunings with N seeds, too: as scripts/compare.sh does, in "
        "compare/compare.md",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="train the models that are not trained by default, too (default: false in the list)",
    )
    parser.add_argument(
        "--shard",
        type=_share,
        metavar="I/N",
        help="with the stages translate or cache: the I-th of N shares, for several jobs at the "
        "same time; without it, what is left",
    )
    _add_slurm_options(parser)
    cli.add_text_options(parser)
    return parser


def _add_slurm_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("on SLURM (docs/scale.md)")
    group.add_argument(
        "--submit",
        action="store_true",
        help="submit the stages as a chain of jobs, instead of running them here",
    )
    group.add_argument(
        "--shares",
        type=cli.from_one,
        default=1,
        metavar="N",
        help="with --submit: an array of N jobs shares a teacher's translations, and its answers",
    )
    group.add_argument(
        "--sbatch",
        default="",
        metavar="OPTIONS",
        help="with --submit: sbatch's options for all jobs, as "
        "--sbatch='--partition=long --time=24:00:00'",
    )
    group.add_argument(
        "--sbatch-gpu",
        default="",
        metavar="OPTIONS",
        help="with --submit: further options of the jobs in which a model runs, as "
        "--sbatch-gpu=--gpus=1",
    )
    group.add_argument(
        "--beside",
        action="store_true",
        help="run beside other jobs of the same run; --submit adds this to its jobs",
    )


def _pair_and_stages(arguments: argparse.Namespace) -> tuple[settings.Pair, list[str]]:
    words = list(arguments.words)
    name = words.pop(0) if words and arguments.data is None else None
    return replace(cli.pair_of(arguments, name), everything=arguments.all), words


if __name__ == "__main__":
    sys.exit(main())
