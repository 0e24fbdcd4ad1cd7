"""A process of its own that measures exported models; `pipeline.speed` starts it.

It imports nothing but what lies in the models' folders, so that what is measured is what a folder
does elsewhere. Each line that it prints is a JSON object: ``{"step": ...}`` for each step done, and
last ``{"results": ...}``.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

WARM_UP = 8  # sentences


@dataclass(frozen=True)
class Job:
    """What to measure.

    Attributes:
        folders: of each model, in the order in which they take turns.
        source: file of raw sentences, one a line: all of them are translated once.
        targets: file for each model's translations of them.
        beam: as trained models are evaluated with.
        sentences: how many of them are timed for each thread, spread over the file.
        single: how many of those are timed one by one, on one thread or a GPU: threads share the
            batches, so that more of them do nothing for a single sentence.
        repeats: how often each time is taken; the median counts.
        settings: device and number of threads by name; each is measured on its own.
    """

    folders: Mapping[str, str]
    source: str
    targets: Mapping[str, str]
    beam: int
    sentences: int
    single: int
    repeats: int
    settings: Mapping[str, Mapping[str, Any]]

    @property
    def steps(self) -> int:
        """How many lines tell of a step."""
        rounds = [2 if how["threads"] == 1 else 1 for how in self.settings.values()]
        return len(self.folders) * (1 + sum(rounds) * self.repeats)


def spread(lines: Sequence[str], count: int) -> list[str]:
    """Return `count` of the lines that hold something, at equal distances."""
    lines = [line for line in lines if line.strip()]
    count = min(count, len(lines))
    return [lines[n * len(lines) // count] for n in range(count)]


def measure(job: Job, step: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Return for each model and setting: sentences_per_second, words_per_second, p50_ms, p95_ms.

    The last two are of single sentences, and only where there is one thread.

    The models take turns in each repeat, so that what else the machine does meets all alike. Words
    are those of the translations, at spaces. A device that cannot be had (a GPU without its
    libraries) is ``{"error": ...}``.
    """
    lines = Path(job.source).read_text(encoding="utf-8").split("\n")[:-1]
    timed = spread(lines, job.sentences)
    single = spread(timed, job.single)
    results: dict[str, dict[str, Any]] = {model: {} for model in job.folders}
    for number, (setting, how) in enumerate(job.settings.items()):
        try:
            models = {name: _load(folder, job.beam, how) for name, folder in job.folders.items()}
            if number == 0:
                _translate_all(models, lines, job, step)
            done = functools.partial(_say, step, setting)
            shared = timed * how["threads"]
            for name, rates in _together(models, shared, job.repeats, done).items():
                results[name][setting] = rates
            if how["threads"] == 1:
                for name, latencies in _one_by_one(models, single, job.repeats, done).items():
                    results[name][setting] |= latencies
        except (RuntimeError, ValueError) as error:
            if "device" not in how:
                raise
            for found in results.values():
                found[setting] = {"error": " ".join(str(error).split())}
    return results


def _load(folder: str, beam: int, how: Mapping[str, Any]) -> Any:
    return _module(Path(folder)).Translator(folder, beam=beam, **how)


def _module(folder: Path) -> ModuleType:
    """Import the translator that lies in a folder; each folder has its own."""
    spec = importlib.util.spec_from_file_location(
        f"translate_{folder.name}", folder / "translate.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def _translate_all(
    models: Mapping[str, Any], lines: Sequence[str], job: Job, step: Callable[[str], None]
) -> None:
    for name, model in models.items():
        found = model.translate(lines)
        Path(job.targets[name]).write_text("".join(f"{line}\n" for line in found), "utf-8")
        step(name)


def _together(
    models: Mapping[str, Any], lines: Sequence[str], repeats: int, step: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    for model in models.values():
        model.translate(lines[:WARM_UP])
    seconds: dict[str, list[float]] = {name: [] for name in models}
    words: dict[str, int] = {}
    for _ in range(repeats):
        for name, model in models.items():
            duration, found = _clock(model, lines)
            seconds[name].append(duration)
            words[name] = sum(len(line.split()) for line in found)
            step(name)
    medians = {name: statistics.median(durations) for name, durations in seconds.items()}
    return {
        name: {
            "sentences_per_second": len(lines) / median,
            "words_per_second": words[name] / median,
        }
        for name, median in medians.items()
    }


def _one_by_one(
    models: Mapping[str, Any], lines: Sequence[str], repeats: int, step: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    rounds: dict[str, list[list[float]]] = {name: [] for name in models}
    for _ in range(repeats):
        for name, model in models.items():
            rounds[name].append([1000 * _clock(model, [line])[0] for line in lines])
            step(name)
    found = {}
    for name, durations in rounds.items():
        latencies = sorted(statistics.median(times) for times in zip(*durations, strict=True))
        found[name] = {
            "p50_ms": statistics.median(latencies),
            "p95_ms": percentile(latencies, 95),
        }
    return found


def _clock(model: Any, lines: Sequence[str]) -> tuple[float, list[str]]:
    start = time.perf_counter()
    found = model.translate(lines)
    return time.perf_counter() - start, found


def _say(step: Callable[[str], None], setting: str, name: str) -> None:
    step(f"{name}, {setting}")


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile of sorted values: the smallest that so many percent do not exceed."""
    return values[max(0, -(-percent * len(values) // 100) - 1)]


def main(arguments: Iterable[str]) -> None:
    """Measure what a file describes, a `Job` in JSON."""
    (path,) = arguments
    job = Job(**json.loads(Path(path).read_text(encoding="utf-8")))
    results = measure(job, lambda done: print(json.dumps({"step": done}), flush=True))
    print(json.dumps({"results": results}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
