"""Submit the stages of a pair as a chain of SLURM jobs: ``scripts/pipeline.sh PAIR … --submit``.

SLURM's ``sbatch --dependency`` decides when a job starts. Each job runs the pipeline's own command
line with some of the stages. The jobs of a chain share the run folder. Each stage has its own lock.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import say
from pipeline.engine.stage import Stage
from pipeline.models.settings import REPOSITORY

FOLDER = "jobs"
"""The folder of the jobs' output, in the run folder."""

FAILED = "failed"
"""The file in `FOLDER` with a line for each job that failed."""

TEXT = "text of the pair"
_TEXT_STAGES = ("prepare", "binarize")
_RESULTS = ("lenpen", "evaluate", "export")
_LAST = "report"

# SLURM sends USR1 to this script before the time limit. A requeued job starts the script again, and
# the pipeline continues from the last checkpoint.
_SCRIPT = """\
#!/usr/bin/env bash
set -uo pipefail
name={name} log={log} failed={failed}
trap 'scontrol requeue "$SLURM_JOB_ID"' USR1
{command} &
child=$!
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do  # the signal interrupted the wait
    wait "$child"
    code=$?
done
if ((code)); then
    echo "$name: job $SLURM_JOB_ID failed, see $log" >>"$failed"
fi
{last}exit "$code"
"""

# Only the last job's script has these lines. They print the jobs that failed.
_NAME_THE_FAILED = """\
if [[ -s $failed ]]; then
    cat "$failed" >&2
    exit 1
fi
"""


@dataclass
class Job:
    """A SLURM job.

    Attributes:
        name: the name of the job and of its log.
        stages: the stages that the job runs, in this order.
        needs: names of the jobs that must end first.
        shareable: whether an array of jobs can share the work.
    """

    name: str
    stages: list[str] = field(default_factory=list)
    needs: set[str] = field(default_factory=set)
    shareable: bool = False

    @property
    def on_cpus(self) -> bool:
        """Whether the job needs no GPU."""
        return self.name == TEXT


def jobs(stages: Sequence[Stage]) -> list[Job]:
    """Return the jobs for these stages, each after the jobs that it needs.

    Each stage is a job, with two exceptions, to save start times. The stages up to the binarized
    text are one job. The stages that score and export one model are one job.
    """
    group = {stage.name: _group(stage.name) for stage in stages}
    found: dict[str, Job] = {}
    for stage in stages:
        new = Job(group[stage.name], shareable=stage.share is not None)
        job = found.setdefault(new.name, new)
        job.stages.append(stage.name)
        needs = {group[name] for name in (*stage.needs, *stage.after) if name in group}
        job.needs |= needs - {job.name}
    return list(found.values())


def _group(stage: str) -> str:
    kind, _, model = stage.partition(".")
    if stage in _TEXT_STAGES:
        return TEXT
    return f"results.{model}" if kind in _RESULTS else stage


@dataclass(frozen=True)
class Submission:
    """A submission of stages as jobs.

    Attributes:
        run_dir: the run folder, on a disk that all nodes see.
        name: the run's name; the names of the jobs begin with it.
        command: the pipeline's command line without stages.
        shares: the number of jobs that divide the work of a stage `translate` or `cache`.
        options: options of sbatch for all jobs.
        with_gpu: further options of sbatch for jobs that run a model.
    """

    run_dir: Path
    name: str
    command: Sequence[str]
    shares: int = 1
    options: Sequence[str] = ()
    with_gpu: Sequence[str] = ()

    def submit(self, stages: Sequence[Stage]) -> None:
        """Submit the jobs.

        Raises:
            PipelineError: sbatch is missing, or sbatch refuses a job.
        """
        if shutil.which("sbatch") is None:
            raise PipelineError("--submit needs SLURM's sbatch, which this machine does not have")
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / FAILED).unlink(missing_ok=True)
        numbers: dict[str, int] = {}
        for job in jobs(stages):
            before = [number for name, number in numbers.items() if name in job.needs]
            if job.shareable and self.shares > 1:
                share = f"$SLURM_ARRAY_TASK_ID/{self.shares}"
                command = [*self.command, *job.stages, "--shard", share]
                before = [self._sbatch(job, command, before, f"--array=1-{self.shares}")]
            numbers[job.name] = self._sbatch(job, [*self.command, *job.stages, "--beside"], before)
        say(f"submitted {len(numbers)} jobs; logs: {self._folder}")

    @property
    def _folder(self) -> Path:
        return self.run_dir / FOLDER

    def _sbatch(self, job: Job, command: Sequence[str], before: Sequence[int], *more: str) -> int:
        last = job.name == _LAST
        # The report runs even if a job failed, because its job names the failed jobs.
        kind = "afterany" if last else "afterok"
        dependencies = [f"{kind}:{number}" for number in before]
        # A singleton job waits for earlier jobs of the same name. The tasks of an array have one
        # name, so they would wait for each other.
        dependencies += [] if more else ["singleton"]
        log = self._folder / f"{job.name.replace('/', '-')}-%A{'_%a' if more else ''}.log"
        words = ["sbatch", "--parsable", f"--job-name={self.name} {job.name}", f"--output={log}"]
        words += ["--kill-on-invalid-dep=yes", f"--chdir={REPOSITORY}"]
        words += [f"--dependency={','.join(dependencies)}"] if dependencies else []
        words += ["--requeue", "--open-mode=append", "--signal=B:USR1@120", *more, *self.options]
        words += [] if job.on_cpus else self.with_gpu
        text = _SCRIPT.format(
            command=_joined(command),
            name=shlex.quote(job.name),
            log=shlex.quote(str(log).replace("%A", "*").replace("_%a", "")),
            failed=shlex.quote(str(self._folder / FAILED)),
            last=_NAME_THE_FAILED if last else "",
        )
        result = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
        if result.returncode:
            reason = " ".join(result.stderr.split()) or f"exit status {result.returncode}"
            raise PipelineError(f"sbatch refused the job {job.name}: {reason}")
        return int(result.stdout.strip().partition(";")[0])


def _joined(words: Iterable[str]) -> str:
    """Quote words for a shell, except the variable for the number of an array's task."""
    return " ".join(
        f'"{word}"' if word.startswith("$SLURM_ARRAY_TASK_ID/") else shlex.quote(word)
        for word in words
    )


def command_line(
    pair: Iterable[str], values: Mapping[str, object], flags: Iterable[str]
) -> list[str]:
    """Return the pipeline's command line without stages.

    Args:
        pair: the pair's name; empty with ``--data``.
        values: options and their values; None leaves an option out. Paths become absolute.
        flags: options without a value.
    """
    words = [str(REPOSITORY / "scripts" / "pipeline.sh"), *pair]
    for option, value in values.items():
        if value is not None:
            words += [option, str(value.resolve() if isinstance(value, Path) else value)]
    return [*words, *flags]
