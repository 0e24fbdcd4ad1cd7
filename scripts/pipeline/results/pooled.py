"""What a method is worth over several texts: one mean difference, with an interval over texts.

A method's difference on a text is the mean over its seeds, and over the text's test sets, of the
metric minus the other method's with the same seed. The texts are a sample of the texts that users
have, so the interval is Student's over the texts' differences. Seeds and sentences need no terms of
their own: they move a text's difference, and so are in its spread over texts. A mixed model with
texts as random effects has the same mean and interval where each text has as many seeds.
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
"""How often a difference is found that is as large as `Pooled.detectable`."""

KEYS = ["text", "test", "model", "seed"]


@dataclass(frozen=True)
class Pooled:
    """A mean difference over texts, in the metric's points.

    Attributes:
        mean: over the texts, each counting once.
        low: where the interval begins.
        high: where it ends.
        detectable: the smallest true difference that as many texts, which differ as much, would
            show in `POWER` of all cases.
        above: how many differences of a seed on a text are above zero.
        pairs: how many there are.
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
        files: of each text the ``scores.csv`` that ``scripts/compare.sh`` wrote.
        metric: a column of these: ``bleu``, ``chrf``.

    Raises:
        PipelineError: a file is missing, or is no such table.
    """
    tables = [_scores(path, metric).assign(text=text) for text, path in files.items()]
    return pd.concat(tables, ignore_index=True)[[*KEYS, "value"]]


def _scores(path: Path, metric: str) -> pd.DataFrame:
    try:
        found = pd.read_csv(path)
    except FileNotFoundError:
        raise PipelineError(f"no file {path}: give the scores.csv of a comparison") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
        raise PipelineError(f"{path} is no CSV: give the scores.csv of a comparison") from None
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
    """Return the differences of two methods by text and seed; test sets are averaged.

    Raises:
        PipelineError: a text has no seed that both were trained with.
    """
    values = scores.groupby(["text", "seed", "model"])["value"].mean().unstack("model")
    if missing := {method, other} - set(values):
        known = ", ".join(sorted(values))
        raise PipelineError(f"no text has {' and '.join(sorted(missing))}: choose from {known}")
    found = (values[method] - values[other]).dropna()
    if without := [text for text in scores["text"].unique() if text not in found.index]:
        raise PipelineError(f"{without[0]} has no seed of both {method} and {other}: leave it out")
    return found


def pooled(differences: pd.Series) -> Pooled:
    """Return the mean over texts with its interval.

    Args:
        differences: by ``text`` and ``seed``, as `by_seed` has them.

    Raises:
        PipelineError: there are fewer than two texts.
    """
    texts = differences.groupby("text", sort=False).mean()
    if len(texts) < 2:
        raise PipelineError("an interval over texts takes two texts or more")
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
