"""The command line of the pipeline."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pipeline import cli, compare, models, schedule, settings, stages, state
from pipeline.devices import Slot
from pipeline.errors import PipelineError

_USAGE = """\
scripts/pipeline.sh PAIR [STAGE ...] [--quick] [--force] [--runs DIR] [--archives DIR]
                           [--train-teacher]
       scripts/pipeline.sh --data DIR --src LANG --tgt LANG --config DIR [STAGE ...]"""

_EPILOG = f"""\
stages, in their order (all of them where none is named):
  {" ".join(stages.names(models.merged(settings.common_models(), None, settings.CONFIGS)))}

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
  scripts/pipeline.sh --data ~/corpus --src de --tgt en --config configs/demo

DIR holds train, valid and test, each as .LANG or .LANG.gz, a sentence a line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stages that the command line names; return the exit code."""
    arguments = _parser().parse_intermixed_args(argv)
    return cli.run(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    pair, words = _pair_and_stages(arguments)
    chosen = stages.chosen(pair, words)
    if arguments.seeds:
        if words:
            raise PipelineError("--seeds goes with all stages: name none")
        compared = compare.planned(pair, seeds=arguments.seeds).stages(compare.report)
        # Its report comes after the comparison, and has it as a section.
        own = {stage.name: stage for stage in chosen}
        chosen = list((own | {stage.name: stage for stage in compared}).values())
    names = {stage.name for stage in chosen}
    slots = [Slot()]
    if not names <= {"prepare", "binarize"}:  # what comes later reads torch in, for a second
        trainings = [training for training in stages.trainings(pair) if training.name in names]
        slots = cli.slots(arguments, pair, trainings)
    with state.locked(pair.run_dir):
        schedule.run(pair, chosen, slots, force=arguments.force)


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
    cli.add_text_options(parser)
    return parser


def _pair_and_stages(arguments: argparse.Namespace) -> tuple[settings.Pair, list[str]]:
    words = list(arguments.words)
    name = words.pop(0) if words and arguments.data is None else None
    return cli.pair_of(arguments, name), words


if __name__ == "__main__":
    sys.exit(main())
