"""Measure exported models in a separate process, which `pipeline.results.speed` starts.

The process imports only the files in the models' folders, so the numbers hold for a folder that is
copied elsewhere. Each printed line is a JSON object: ``{"step": ...}`` after each step, and
``{"results": ...}`` last.
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
    """The description of a measurement.

    Attributes:
        folders: the folder of each model, in the order of the turns.
        timed: the models to time; the other models only translate.
        beams: the beams; each model is measured with each beam.
        texts: the texts to translate once: `model`, `beam`, `source` (a file of raw sentences,
            one a line) and `target`.
        source: the file with the sentences to time.
        sentences: the number of timed sentences per thread, spread over the file.
        single: the number of sentences timed one by one, on one thread or on a GPU. Threads share
            the batches, so more threads do not speed up a single sentence.
        repeats: the number of repeats; the median is the result.
        settings: device and number of threads by name; each setting is measured separately.
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
        """Return the number of lines that report a step."""
        rounds = [2 if how["threads"] == 1 else 1 for how in self.settings.values()]
        return len(self.texts) + self.repeats * sum(rounds) * len(self.timed) * len(self.beams)


@dataclass(frozen=True)
class Point:
    """A model with a beam."""

    model: str
    beam: int
    translator: Any

    @property
    def name(self) -> str:
        """The name in the progress bar."""
        return f"{self.model} at beam {self.beam}"

    def translate(self, lines: Sequence[str]) -> list[str]:
        """Translate; all points of a model share one translator."""
        self.translator.beam = self.beam
        return self.translator.translate(lines)


def spread(lines: Sequence[str], count: int) -> list[str]:
    """Return `count` of the lines that are not empty, at equal distances."""
    lines = [line for line in lines if line.strip()]
    count = min(count, len(lines))
    return [lines[n * len(lines) // count] for n in range(count)]


def measure(job: Job, step: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure each model with each beam on each setting.

    The points take turns in each repeat, so other work on the machine disturbs all points alike.
    Words are counted in the translations, separated by spaces.

    Returns:
        `model` and `beam` for each point. For a timed model also, under the name of each setting,
        sentences_per_second, words_per_second, p50_ms and p95_ms. The last two are times of single
        sentences, measured only with one thread. A setting whose device is missing (a GPU without
        its libraries) has ``{"error": ...}``.
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
    """Import the translator of a folder; each folder has its own module."""
    spec = importlib.util.spec_from_file_location(
        f"translate_{folder.name}", folder / "translate.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look the module up here
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
    """Return a percentile of sorted values: the smallest value that covers so many percent."""
    return values[max(0, -(-percent * len(values) // 100) - 1)]


def main(arguments: Iterable[str]) -> None:
    """Measure the `Job` that a JSON file describes."""
    (path,) = arguments
    job = Job(**json.loads(Path(path).read_text(encoding="utf-8")))
    results = measure(job, lambda done: print(json.dumps({"step": done}), flush=True))
    print(json.dumps({"results": results}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
