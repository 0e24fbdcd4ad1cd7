"""A process of its own that measures exported models; `pipeline.results.speed` starts it.

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
        timed: the models whose times are taken; the others only translate.
        beams: each model is measured with each of them.
        texts: what is translated once: `model`, `beam`, `source` (a file of raw sentences, one a
            line) and `target`.
        source: the file whose sentences are timed.
        sentences: how many of them are timed for each thread, spread over the file.
        single: how many of those are timed one by one, on one thread or a GPU: threads share the
            batches, so that more of them do nothing for a single sentence.
        repeats: how often each time is taken; the median counts.
        settings: device and number of threads by name; each is measured on its own.
    """

    folders: Mapping[str, str]
    timed: Sequence[str]
    beams: Sequence[int]
    texts: Sequence[Mapping[str, Any]]
    source: str
    sentences: int
    single: int
    repeats: int
    settings: Mapping[str, Mapping[str, Any]]

    @property
    def steps(self) -> int:
        """How many lines tell of a step."""
        rounds = [2 if how["threads"] == 1 else 1 for how in self.settings.values()]
        return len(self.texts) + self.repeats * sum(rounds) * len(self.timed) * len(self.beams)


@dataclass(frozen=True)
class Point:
    """A model and the beam that it translates with."""

    model: str
    beam: int
    translator: Any

    @property
    def name(self) -> str:
        """What the bar calls it."""
        return f"{self.model} at beam {self.beam}"

    def translate(self, lines: Sequence[str]) -> list[str]:
        """Translate; the points of a model share one translator."""
        self.translator.beam = self.beam
        return self.translator.translate(lines)


def spread(lines: Sequence[str], count: int) -> list[str]:
    """Return `count` of the lines that hold something, at equal distances."""
    lines = [line for line in lines if line.strip()]
    count = min(count, len(lines))
    return [lines[n * len(lines) // count] for n in range(count)]


def measure(job: Job, step: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure each model with each beam on each setting.

    Returns:
        For each point `model`, `beam`, and where the model is timed by the name of each setting
        sentences_per_second, words_per_second, p50_ms, p95_ms. The last two are of single
        sentences, and only where there is one thread.

    The points take turns in each repeat, so that what else the machine does meets all alike. Words
    are those of the translations, at spaces. A device that cannot be had (a GPU without its
    libraries) is ``{"error": ...}``.
    """
    lines = Path(job.source).read_text(encoding="utf-8").split("\n")[:-1]
    timed = spread(lines, job.sentences)
    single = spread(timed, job.single)
    results = [{"model": m, "beam": beam} for m in job.folders for beam in job.beams]
    timed_points = [found for found in results if found["model"] in job.timed]
    places = [dict(found) for found in timed_points]
    for number, (setting, how) in enumerate(job.settings.items()):
        try:
            wanted = job.folders if number == 0 else job.timed
            loaded = {name: _load(job.folders[name], job, how) for name in wanted}
            if number == 0:
                _translate_all(loaded, job, step)
            points = [Point(**place, translator=loaded[place["model"]]) for place in places]
            done = functools.partial(_say, step, setting)
            shared = timed * how["threads"]
            rates = _together(points, shared, job.repeats, done)
            if how["threads"] == 1:
                latencies = _one_by_one(points, single, job.repeats, done)
                rates = [a | b for a, b in zip(rates, latencies, strict=True)]
            for found, of_point in zip(timed_points, rates, strict=True):
                found[setting] = of_point
        except (RuntimeError, ValueError) as error:
            if "device" not in how:
                raise
            for found in timed_points:
                found[setting] = {"error": " ".join(str(error).split())}
    return results


def _load(folder: str, job: Job, how: Mapping[str, Any]) -> Any:
    return _module(Path(folder)).Translator(folder, beam=job.beams[0], **how)


def _module(folder: Path) -> ModuleType:
    """Import the translator that lies in a folder; each folder has its own."""
    spec = importlib.util.spec_from_file_location(
        f"translate_{folder.name}", folder / "translate.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def _translate_all(loaded: Mapping[str, Any], job: Job, step: Callable[[str], None]) -> None:
    for text in job.texts:
        point = Point(text["model"], text["beam"], loaded[text["model"]])
        found = point.translate(Path(text["source"]).read_text("utf-8").split("\n")[:-1])
        Path(text["target"]).write_text("".join(f"{line}\n" for line in found), "utf-8")
        step(point.name)


def _together(
    points: Sequence[Point], lines: Sequence[str], repeats: int, step: Callable[[str], None]
) -> list[dict[str, float]]:
    for point in points:
        point.translate(lines[:WARM_UP])
    seconds: list[list[float]] = [[] for _ in points]
    words = [0 for _ in points]
    for _ in range(repeats):
        for place, point in enumerate(points):
            duration, found = _clock(point, lines)
            seconds[place].append(duration)
            words[place] = sum(len(line.split()) for line in found)
            step(point.name)
    medians = [statistics.median(durations) for durations in seconds]
    return [
        {"sentences_per_second": len(lines) / median, "words_per_second": count / median}
        for median, count in zip(medians, words, strict=True)
    ]


def _one_by_one(
    points: Sequence[Point], lines: Sequence[str], repeats: int, step: Callable[[str], None]
) -> list[dict[str, float]]:
    rounds: list[list[list[float]]] = [[] for _ in points]
    for _ in range(repeats):
        for place, point in enumerate(points):
            rounds[place].append([1000 * _clock(point, [line])[0] for line in lines])
            step(point.name)
    found = []
    for durations in rounds:
        latencies = sorted(statistics.median(times) for times in zip(*durations, strict=True))
        found.append({"p50_ms": statistics.median(latencies), "p95_ms": percentile(latencies, 95)})
    return found


def _clock(point: Point, lines: Sequence[str]) -> tuple[float, list[str]]:
    start = time.perf_counter()
    found = point.translate(lines)
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
