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
from pipeline.engine.devices import WHOLE
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
stages, in their order:
{_STAGES}

Without a stage name the command runs all stages of the models that are trained by default. --all
adds the other models. With stage names it runs these stages, and before them all that they need and
that is not done. evaluate, export and lenpen do so for the models that are trained or named.

A finished stage is skipped. An interrupted stage continues from where it stopped. Each training
stage runs fairseq-hydra-train with the config of its name. Stages that do not need each other run
at the same time (--jobs). If a stage fails, the stages that need it do not start, and the others
run to their end. All output goes to runs/PAIR/: the table to report.md, each stage's log to logs/.

environment variables:
  GPUS         number of GPUs for one model. The GPUs share the config's update_freq, so the batch
               stays the same. Default: the most visible GPUs that divide update_freq.
  UPDATE_FREQ  update_freq of each GPU, for another batch
  LAUNCHER     command that starts a training on several nodes (examples/slurm/)

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

DIR holds train, valid and test, each as .LANG or .LANG.gz, with one sentence per line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stages that the command line names; return the exit code."""
    arguments = _parser().parse_intermixed_args(argv)
    return cli.run(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    pair, words = _pair_and_stages(arguments)
    if arguments.shard:
        _run_share(pair, words, arguments)
        return
    targets = stages.named(pair, words)
    chosen = stages.chosen(pair, targets, targets if arguments.force else ())
    if arguments.seeds:
        if words:
            raise PipelineError("--seeds runs all stages: leave the stage names out")
        compared = compare.planned(pair, seeds=arguments.seeds).stages(compare.report)
        # The report comes after the comparison: the report has a section about it.
        both = {stage.name: stage for stage in (*chosen, *compared)}
        targets, chosen = set(both), list(both.values())
    if arguments.submit:
        _submit(pair, chosen, arguments)
        return
    names = {stage.name for stage in chosen}
    slots = [WHOLE]
    if not names <= {"prepare", "binarize"}:  # other stages import torch: a second
        trainings = [training for training in stages.trainings(pair) if training.name in names]
        slots = cli.slots(arguments, pair, trainings)
    with state.locked(pair.files.run_dir, shared=arguments.beside):
        schedule.run(pair.files, chosen, slots, force=targets if arguments.force else ())


def _submit(pair: settings.Pair, chosen: Sequence[Stage], arguments: argparse.Namespace) -> None:
    """Submit the stages as jobs of SLURM; each job is this command line with its own stages."""
    for option in ("force", "seeds", "beside"):
        if getattr(arguments, option):
            raise PipelineError(f"--{option} does not go with --submit: leave one of them out")
    values = ("archives", "data", "src", "tgt", "config", "name", "runs", "jobs", "threads")
    flags = [f"--{arguments.variant}"] if arguments.variant else []
    flags += ["--train-teacher"] if arguments.train_teacher else []
    flags += ["--all"] if arguments.all else []
    given = [] if arguments.data else [arguments.words[0]]
    command = submit.command_line(given, {f"--{v}": getattr(arguments, v) for v in values}, flags)
    submission = submit.Submission(
        pair.files.run_dir,
        pair.name,
        command,
        shares=arguments.shares,
        options=shlex.split(arguments.sbatch),
        with_gpu=shlex.split(arguments.sbatch_gpu),
    )
    submission.submit(chosen)


def _run_share(pair: settings.Pair, words: list[str], arguments: argparse.Namespace) -> None:
    """Run one share of a teacher's translations or answers; other jobs may run other shares."""
    found = stages.shared(pair, words)
    slot = cli.slots(arguments, pair, [])[0]
    with state.locked(pair.files.run_dir, shared=True):
        for stage in found:
            assert stage.share is not None
            stage.share(slot, arguments.shard)


def _share(text: str) -> tuple[int, int]:
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise argparse.ArgumentTypeError(f"{text} is not like 2/4")
    return int(number), int(of)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/pipeline.sh",
        usage=_USAGE,
        description="Train a teacher, a student (the paper's learner), and the student fine-tuned "
        "with each criterion; write a table of scores.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="PAIR [STAGE ...]",
        help=f"pair ({', '.join(settings.names())}), then stages; with --data stages only",
    )
    parser.add_argument(
        "--force", action="store_true", help="redo the named stages, but not what they need"
    )
    cli.add_run_options(
        parser,
        quick="train a few steps on little text, as a test; the run is named PAIR-quick",
    )
    parser.add_argument(
        "--seeds",
        type=cli.from_one,
        metavar="N",
        help="also compare all fine-tunings with N seeds, as scripts/compare.sh does; the tables "
        "go to compare/compare.md",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="also train the models that have default: false in the list of models",
    )
    parser.add_argument(
        "--shard",
        type=_share,
        metavar="I/N",
        help="with the stages translate or cache: run share I of N, so that several jobs divide "
        "the work; without --shard, the stage runs the rest",
    )
    _add_slurm_options(parser)
    cli.add_text_options(parser)
    return parser


def _add_slurm_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("on SLURM (docs/scale.md)")
    group.add_argument(
        "--submit",
        action="store_true",
        help="submit the stages as a chain of jobs, instead of running them on this machine",
    )
    group.add_argument(
        "--shares",
        type=cli.from_one,
        default=1,
        metavar="N",
        help="with --submit: divide a teacher's translations and answers among an array of N jobs",
    )
    group.add_argument(
        "--sbatch",
        default="",
        metavar="OPTIONS",
        help="with --submit: sbatch's options for all jobs, such as "
        "--sbatch='--partition=long --time=24:00:00'",
    )
    group.add_argument(
        "--sbatch-gpu",
        default="",
        metavar="OPTIONS",
        help="with --submit: further options for jobs that run a model, such as "
        "--sbatch-gpu=--gpus=1",
    )
    group.add_argument(
        "--beside",
        action="store_true",
        help="allow other jobs of the same run at the same time; --submit adds this to its jobs",
    )


def _pair_and_stages(arguments: argparse.Namespace) -> tuple[settings.Pair, list[str]]:
    words = list(arguments.words)
    name = words.pop(0) if words and arguments.data is None else None
    return replace(cli.pair_of(arguments, name), everything=arguments.all), words


if __name__ == "__main__":
    sys.exit(main())
