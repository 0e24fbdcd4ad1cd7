"""Points of a grid: a model with varied settings, and its score on validation."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.models import training_log
from pipeline.models.model_list import Model
from pipeline.models.settings import Pair
from pipeline.models.training import Training

WHOLE = 0  # the whole vocabulary, as in --top-k
AS_IN_CONFIG = "config"


@dataclass(frozen=True)
class Point:
    """A model with varied settings; None leaves a setting to the model's config.

    Attributes:
        model: the model that is varied.
        weight: λ.
        size: k; 0: the whole vocabulary.
        rate: the learning rate.
    """

    model: Model
    weight: float | None = None
    size: int | None = None
    rate: float | None = None

    @property
    def label(self) -> str:
        """The name of the point in file names, different from all other points."""
        label = self.model.name
        if self.rate is not None:
            label += f"-rate{self.rate:g}"
        if self.weight is not None:
            label += f"-weight{self.weight:g}"
        if self.size is not None:
            label += f"-k{self.size or 'V'}"
        return label

    @property
    def title(self) -> str:
        """The varied settings, for tables; empty if all settings are the config's."""
        found = []
        if self.rate is not None:
            found.append(f"lr {self.rate:g}")
        if self.weight is not None:
            found.append(f"λ {self.weight:g}")
        if self.size is not None:
            found.append(f"k {self.size or 'V'}")
        return "; ".join(found)

    def training(self, folder: str, start: str | None = None, **settings: Any) -> Training:
        """Return the training of the point.

        Args:
            folder: the parent folder; the training's own folder is the `label`.
            start: the model to start from; by default the model's own start.
            settings: further settings, by dotted keys.
        """
        varied: dict[str, Any] = {"checkpoint.no_epoch_checkpoints": True}
        if self.rate is not None:
            varied["optimization.lr"] = [self.rate]
        if self.weight is not None:
            varied["criterion.transfer_weight"] = self.weight
        if self.size is not None:
            varied["criterion.top_k"] = self.size
        return dataclasses.replace(
            Training.of(self.model),
            name=f"{folder}/{self.label}",
            start=start or self.model.start,
            settings={**self.model.settings, **varied, **settings},
        )


def best_bleu(pair: Pair, training: Training) -> float:
    """Return the validation BLEU of a training's best checkpoint."""
    records = training_log.read(pair.files.log(training.name))
    return max(float(record["valid_bleu"]) for record in records if "valid_bleu" in record)


def listed(read: Callable[[str], object]) -> Callable[[str], tuple]:
    """Return an argparse type for values separated by commas; `read` parses each value."""

    def values(text: str) -> Iterator[object]:
        for part in text.split(","):
            try:
                yield read(part)
            except ValueError as error:
                raise argparse.ArgumentTypeError(f"{part}: {error}") from None

    return lambda text: tuple(values(text))


def weight(text: str) -> float:
    """Parse λ."""
    found = float(text)
    if not 0 <= found <= 1:
        raise ValueError("λ is from 0 to 1")
    return found


def rate(text: str) -> float:
    """Parse a learning rate."""
    found = float(text)
    if found <= 0:
        raise ValueError("a learning rate is above 0")
    return found


def size(text: str) -> int | None:
    """Parse k; None stands for the config's k."""
    if text == AS_IN_CONFIG:
        return None
    found = WHOLE if text == "V" else int(text)
    if found < 0 or (found == WHOLE and text != "V"):
        raise ValueError("k is 1 or more, V, or config")
    return found
