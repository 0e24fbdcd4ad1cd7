"""Pool a method's differences over several texts: one mean, with an interval over texts.

In each seed the difference is the method's metric minus the other method's metric. A method's
difference on a text is the mean over its seeds and over the text's test sets.

The texts are a sample of the texts that users have. So the interval is Student's t interval over
the texts' differences. Seeds and sentences need no terms of their own: they change each text's
difference, so the spread over the texts already includes their effect. A mixed model with texts as
random effects has the same mean and interval if all texts have the same number of seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.engine.errors import PipelineError
from pipeline.results.significance import CONFIDENCE

POWER = 0.8
"""The probability of detecting a true difference as large as `Pooled.detectable`."""

KEYS = ["text", "test", "model", "seed"]


@dataclass(frozen=True)
class Pooled:
    """A mean difference over texts, in the metric's points.

    Attributes:
        mean: the mean over texts; each text has the same weight.
        low: the lower end of the interval.
        high: the upper end of the interval.
        detectable: the smallest true difference that the same number of texts, with the same
            spread, would detect with probability `POWER`.
        above: the number of differences above zero, of one seed on one text each.
        pairs: the number of all such differences.
        by_text: each text's difference.
    """

    mean: float
    low: float
    high: float
    detectable: float
    above: int
    pairs: int
    by_text: Mapping[str, float]


def read(files: Mapping[str, Path], metric: str) -> pd.DataFrame:
    """Return the scores of several comparisons: `KEYS` and ``value``.

    Args:
        files: for each text the ``scores.csv`` that ``scripts/compare.sh`` wrote.
        metric: a column of these files: ``bleu``, ``chrf``.

    Raises:
        PipelineError: a file is missing, or is not a table of scores.
    """
    tables = [_scores(path, metric).assign(text=text) for text, path in files.items()]
    return pd.concat(tables, ignore_index=True)[[*KEYS, "value"]]


def _scores(path: Path, metric: str) -> pd.DataFrame:
    try:
        found = pd.read_csv(path)
    except FileNotFoundError:
        raise PipelineError(f"no file {path}: give the scores.csv of a comparison") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
        raise PipelineError(f"{path} is not a CSV: give the scores.csv of a comparison") from None
    needed = ["test", "model", "seed", metric]
    if missing := [column for column in needed if column not in found]:
        raise PipelineError(
            f"{path} has no column {missing[0]}; it has {', '.join(map(str, found))}"
        )
    if "student" in found and (sizes := found["student"].fillna("").unique()).size > 1:
        raise PipelineError(
            f"{path} has several student sizes ({', '.join(sizes)}): give a file with one"
        )
    return found[needed].rename(columns={metric: "value"})


def by_seed(scores: pd.DataFrame, method: str, other: str) -> pd.Series:
    """Return the differences between two methods by text and seed, averaged over test sets.

    Raises:
        PipelineError: a method is missing. Or a text has no seed that both methods share.
    """
    values = scores.groupby(["text", "seed", "model"])["value"].mean().unstack("model")
    if missing := {method, other} - set(values):
        known = ", ".join(sorted(values))
        raise PipelineError(f"no text has {' and '.join(sorted(missing))}: choose from {known}")
    found = (values[method] - values[other]).dropna()
    if without := [text for text in scores["text"].unique() if text not in found.index]:
        raise PipelineError(
            f"{without[0]} has no common seed of {method} and {other}: leave it out"
        )
    return found


def pooled(differences: pd.Series) -> Pooled:
    """Return the mean over texts with its interval.

    Args:
        differences: by ``text`` and ``seed``, as `by_seed` returns them.

    Raises:
        PipelineError: there are fewer than two texts.
    """
    texts = differences.groupby("text", sort=False).mean()
    if len(texts) < 2:
        raise PipelineError("an interval over texts needs two texts or more")
    low, high = stats.ttest_1samp(texts, 0).confidence_interval(CONFIDENCE)
    freedom = len(texts) - 1
    quantiles = stats.t.ppf([(1 + CONFIDENCE) / 2, POWER], freedom)
    return Pooled(
        float(texts.mean()),
        float(low),
        float(high),
        float(quantiles.sum() * texts.std() / np.sqrt(len(texts))),
        int((differences > 0).sum()),
        len(differences),
        {str(text): float(value) for text, value in texts.items()},
    )
