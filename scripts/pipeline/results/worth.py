"""What a method is worth against another, along their curves of quality over speed.

Both were trained at the same sizes, and each size is decoded with each beam. The interval is that
of `pipeline.results.hierarchical`, of the worth instead of a difference in BLEU: over sentences, of
the curves through the means over seeds of the drawn texts' BLEU; over seeds, of each seed's own
curves.
Speeds are taken as they were measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.results import hierarchical, interpolation
from pipeline.results.interpolation import Curve
from pipeline.results.significance import Interval

_MOST_UNDEFINED = 0.01  # of the drawn texts may have curves that share nothing

Points = Sequence[tuple[str, float]]
"""The points of a method: what `Scores` knows it by, and its speed."""
Worth = Callable[[Curve, Curve], float | None]


@dataclass(frozen=True)
class Scores:
    """BLEU of points on a test set.

    Attributes:
        by_seed: of each point, (seeds,).
        drawn: of each point, (seeds, resamples): of texts of drawn sentences, the same for all.
    """

    by_seed: Mapping[str, np.ndarray]
    drawn: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Found:
    """A worth with its interval, which is None where the curves of drawn texts share nothing."""

    value: float
    interval: Interval | None


def at_equal_speed(one: Points, other: Points, scores: Scores) -> Found | None:
    """Return BLEU that `one` is above `other` at equal speed; None: they share no speed."""
    return _found(one, other, scores, interpolation.worth_at_equal_speed)


def at_equal_quality(one: Points, other: Points, scores: Scores) -> Found | None:
    """Return how many times as fast `one` is as `other` at equal BLEU; None: they share none."""

    def logarithm(*curves: Curve) -> float | None:
        times = interpolation.worth_at_equal_quality(*curves)
        return None if times is None else math.log(times)

    found = _found(one, other, scores, logarithm)  # whose differences add up, as those of BLEU
    if found is None:
        return None
    ends = found.interval
    interval = None if ends is None else Interval(math.exp(ends.low), math.exp(ends.high))
    return Found(math.exp(found.value), interval)


def sentence(name: str, baseline: str, speed: Found | None, quality: Found | None) -> str:
    """Say what a method is worth; what its interval does not show is said to be not shown.

    Args:
        name: what the method is called.
        baseline: likewise what it is compared with.
        speed: of `at_equal_speed`.
        quality: of `at_equal_quality`.
    """
    at_speed = _part(speed, 0.0, lambda value: f"{value:+.1f} BLEU", "{:.1f}")
    at_quality = _part(quality, 1.0, lambda value: f"{value:.2f} times the speed", "{:.2f}")
    return (
        f"What {name} is worth against {baseline}: at equal speed {at_speed}; at equal BLEU "
        f"{at_quality}."
    )


def _part(found: Found | None, nothing: float, said: Callable[[float], str], end: str) -> str:
    if found is None:
        return "not shown (the curves share nothing)"
    if found.interval is None:
        return f"not shown ({said(found.value)}, and of other texts the curves share nothing)"
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
