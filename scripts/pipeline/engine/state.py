"""The state of each stage: its inputs, and whether it is done."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.engine import files
from pipeline.engine.errors import PipelineError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """The state of one stage, kept in ``state/STAGE.json``.

    Attributes:
        inputs: all that the result depends on: settings, and the fingerprints of earlier stages.
        done: False from the start of the stage until its last output is written.
        facts: results of the stage that later stages report.
    """

    inputs: Inputs
    done: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """A hash of the inputs. Results with the same hash are interchangeable."""
        text = json.dumps(self.inputs, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def path(run_dir: Path, stage: str) -> Path:
    """Return the file that holds the state of `stage`."""
    return run_dir / "state" / f"{stage}.json"


def read(run_dir: Path, stage: str) -> Record | None:
    """Return the state of `stage`, or None if the stage never started."""
    try:
        return Record(**json.loads(path(run_dir, stage).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def write(run_dir: Path, stage: str, record: Record) -> None:
    """Write the state of `stage`."""
    files.write_json(path(run_dir, stage), asdict(record))


def forget(run_dir: Path, stage: str) -> None:
    """Remove the state of `stage`, as if the stage had never started."""
    files.remove(path(run_dir, stage))


def forget_group(run_dir: Path, name: str) -> None:
    """Remove the states of the stage `name` and of the stages ``NAME.…``."""
    forget(run_dir, name)
    own = path(run_dir, name)
    for found in own.parent.glob(f"{glob.escape(own.stem)}.*.json"):
        files.remove(found)


def is_done(run_dir: Path, stage: str) -> bool:
    """Return whether `stage` is done."""
    record = read(run_dir, stage)
    return record is not None and record.done


def facts(run_dir: Path, stage: str) -> dict[str, Any]:
    """Return the facts of `stage`; an empty dict if the stage is not done."""
    record = read(run_dir, stage)
    return dict(record.facts) if record is not None and record.done else {}


def fingerprint(run_dir: Path, stage: str) -> str | None:
    """Return the fingerprint of the result of `stage`, or None if the stage is not done."""
    record = read(run_dir, stage)
    return record.fingerprint if record is not None and record.done else None


def canonical(inputs: Inputs) -> dict[str, Any]:
    """Return inputs in the form in which JSON stores them, to compare them with stored inputs."""
    return json.loads(json.dumps(inputs))


def changes(old: Inputs, new: Inputs) -> list[str]:
    """Return each difference, as ``key: old -> new``."""
    keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    return [f"{key}: {old.get(key)} -> {new.get(key)}" for key in keys]


@contextlib.contextmanager
def locked(run_dir: Path, *, shared: bool = False) -> Iterator[None]:
    """Keep a second pipeline out of `run_dir` while the block runs.

    This process and the commands that it starts hold the lock. So a kill leaves nothing to clean
    up. A training that outlives its pipeline still keeps the next pipeline out.

    Args:
        run_dir: the run folder.
        shared: let in other processes that also call this function with `shared`.

    Raises:
        PipelineError: another process holds the lock.
    """
    refusal = (
        f"another pipeline, or a training that it left behind, is at work in {run_dir}: "
        "wait for its end"
    )
    with _holding(run_dir / ".lock", refusal, shared=shared):
        yield


@contextlib.contextmanager
def stage_locked(run_dir: Path, stage: str) -> Iterator[None]:
    """Keep other processes from making the result of `stage` while the block runs.

    Raises:
        PipelineError: another process is making the result.
    """
    refusal = f"another process is at work on {stage} in {run_dir}: wait for its end"
    with _holding(run_dir / ".locks" / f"{stage}.lock", refusal):
        yield


@contextlib.contextmanager
def _holding(path: Path, refusal: str, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a file, or raise a `PipelineError` with the text `refusal`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        if fcntl is not None:
            os.set_inheritable(file.fileno(), True)
            try:
                kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except OSError:
                raise PipelineError(refusal) from None
        yield


@contextlib.contextmanager
def one_at_a_time(run_dir: Path) -> Iterator[None]:
    """Wait until no other process, on any machine, is in such a block; then run the block."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / ".setup.lock").open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
