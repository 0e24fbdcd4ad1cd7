"""Points of a grid: a model with other settings than its config's, and its score on validation."""

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

WHOLE = 0  # as --top-k has it
AS_IN_CONFIG = "config"


@dataclass(frozen=True)
class Point:
    """A fine-tuning: the model that it varies, λ, k (0: the whole vocabulary), learning rate.

    None is what the model's config has.
    """

    model: Model
    weight: float | None = None
    size: int | None = None
    rate: float | None = None

    @property
    def label(self) -> str:
        """Names it among those of all models, in the names of files."""
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
        """What tables call the settings; nothing where all are the config's."""
        found = []
        if self.rate is not None:
            found.append(f"lr {self.rate:g}")
        if self.weight is not None:
            found.append(f"λ {self.weight:g}")
        if self.size is not None:
            found.append(f"k {self.size or 'V'}")
        return "; ".join(found)

    def training(self, folder: str, start: str | None = None, **settings: Any) -> Training:
        """Return what makes it.

        Args:
            folder: holds it, under its `label`.
            start: what it goes on from; the model's own by default.
            settings: further ones, by dotted keys.
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
    """Return the validation BLEU of the checkpoint that was chosen."""
    records = training_log.read(pair.log(training.name))
    return max(float(record["valid_bleu"]) for record in records if "valid_bleu" in record)


def listed(read: Callable[[str], object]) -> Callable[[str], tuple]:
    """Return what reads values that commas separate, each as `read` does, for argparse."""

    def values(text: str) -> Iterator[object]:
        for part in text.split(","):
            try:
                yield read(part)
            except ValueError as error:
                raise argparse.ArgumentTypeError(f"{part}: {error}") from None

    return lambda text: tuple(values(text))


def weight(text: str) -> float:
    """Read λ."""
    found = float(text)
    if not 0 <= found <= 1:
        raise ValueError("λ is from 0 to 1")
    return found


def rate(text: str) -> float:
    """Read a learning rate."""
    found = float(text)
    if found <= 0:
        raise ValueError("a learning rate is above 0")
    return found


def size(text: str) -> int | None:
    """Read k; None is what the config has."""
    if text == AS_IN_CONFIG:
        return None
    found = WHOLE if text == "V" else int(text)
    if found < 0 or (found == WHOLE and text != "V"):
        raise ValueError("k is 1 or more, V, or config")
    return found
