"""Compare two methods at equal speed and at equal BLEU, from their curves of quality over speed.

The worth of a method is its advantage over another method. Both methods were trained at the same
sizes, and each size was decoded with each beam. The interval is computed as in
`pipeline.results.hierarchical`, with the worth in place of a BLEU difference. For each resampled
text, the curves go through the mean BLEU over the seeds. For each seed, the curves go through that
seed's BLEU on the whole test set. Speeds are as measured, and are not resampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.results import hierarchical, interpolation
from pipeline.results.interpolation import Curve
from pipeline.results.significance import Interval

_MOST_UNDEFINED = 0.01  # the largest share of drawn texts whose curves do not overlap

Points = Sequence[tuple[str, float]]
"""The points of a method: each with its key in `Scores` and its speed."""
Worth = Callable[[Curve, Curve], float | None]


@dataclass(frozen=True)
class Scores:
    """The BLEU scores of points on a test set.

    Attributes:
        by_seed: BLEU of each point on the whole test set, shape (seeds,).
        drawn: BLEU of each point on resampled texts, shape (seeds, resamples). All points share
            these texts.
    """

    by_seed: Mapping[str, np.ndarray]
    drawn: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Found:
    """A worth with its interval; the interval is None if the drawn curves do not overlap."""

    value: float
    interval: Interval | None


def at_equal_speed(one: Points, other: Points, scores: Scores) -> Found | None:
    """Return by how much BLEU `one` is above `other` at equal speed.

    Return None if the curves have no speed in common.
    """
    return _found(one, other, scores, interpolation.worth_at_equal_speed)


def at_equal_quality(one: Points, other: Points, scores: Scores) -> Found | None:
    """Return how many times as fast `one` is as `other` at equal BLEU.

    Return None if the curves have no BLEU in common.
    """

    def logarithm(*curves: Curve) -> float | None:
        times = interpolation.worth_at_equal_quality(*curves)
        return None if times is None else math.log(times)

    found = _found(one, other, scores, logarithm)  # the logarithm turns a ratio into a difference
    if found is None:
        return None
    ends = found.interval
    interval = None if ends is None else Interval(math.exp(ends.low), math.exp(ends.high))
    return Found(math.exp(found.value), interval)


def sentence(name: str, baseline: str, speed: Found | None, quality: Found | None) -> str:
    """Return a sentence on a method's worth; "not shown" if the interval includes equality.

    Args:
        name: the method's name.
        baseline: the name of the method that it is compared with.
        speed: the result of `at_equal_speed`.
        quality: the result of `at_equal_quality`.
    """
    at_speed = _part(speed, 0.0, lambda value: f"{value:+.1f} BLEU", "{:.1f}")
    at_quality = _part(quality, 1.0, lambda value: f"{value:.2f} times the speed", "{:.2f}")
    return (
        f"Worth of {name} against {baseline}: at equal speed {at_speed}; at equal BLEU "
        f"{at_quality}."
    )


def _part(found: Found | None, nothing: float, said: Callable[[float], str], end: str) -> str:
    if found is None:
        return "not shown (the curves do not overlap)"
    if found.interval is None:
        return f"not shown ({said(found.value)}, but the curves of resampled texts do not overlap)"
    ends = f"[{', '.join(end.format(e) for e in (found.interval.low, found.interval.high))}]"
    if found.interval.low <= nothing <= found.interval.high:
        return f"not shown ({said(found.value)} {ends})"
    return f"{said(found.value)} {ends}"


def _found(one: Points, other: Points, scores: Scores, worth: Worth) -> Found | None:
    def value(bleu: Mapping[str, float]) -> float | None:
        curves = [
            interpolation.curve([bleu[key] for key, _ in points], [rate for _, rate in points])
            for points in (one, other)
        ]
        return worth(*curves)

    keys = [key for key, _ in (*one, *other)]
    whole = value({key: float(scores.by_seed[key].mean()) for key in keys})
    if whole is None:
        return None
    means = {key: scores.drawn[key].mean(axis=0) for key in keys}
    count = len(means[keys[0]])
    drawn = _numbers([value({key: means[key][n] for key in keys}) for n in range(count)])
    seeds = range(len(scores.by_seed[keys[0]]))
    by_seed = _numbers([value({key: scores.by_seed[key][n] for key in keys}) for n in seeds])
    if len(by_seed) < len(seeds) or len(drawn) < (1 - _MOST_UNDEFINED) * count:
        return Found(whole, None)
    return Found(whole, hierarchical.interval(drawn, by_seed))


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([value for value in values if value is not None])
