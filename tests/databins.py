"""Data-bins that tests write and read without fairseq-preprocess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fairseq.data import Dictionary, data_utils, indexed_dataset


def write_dictionary(path: Path, symbols: Sequence[str]) -> None:
    """Write a dictionary as fairseq-preprocess does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{symbol} 1\n" for symbol in symbols), encoding="utf-8")


def write_split(folder: Path, split: str, sides: Mapping[str, Sequence[str]]) -> None:
    """Write a split with the folder's dictionaries.

    Args:
        folder: the data-bin.
        split: train, valid, ...
        sides: source, and perhaps target: a language and sentences in subwords.
    """
    source, target = [*sides, "None"][:2]
    for language, sentences in sides.items():
        dictionary = Dictionary.load(str(folder / f"dict.{language}.txt"))
        prefix = folder / f"{split}.{source}-{target}.{language}"
        builder = indexed_dataset.make_builder(f"{prefix}.bin", "mmap", len(dictionary))
        for sentence in sentences:
            builder.add_item(dictionary.encode_line(sentence, add_if_not_exist=False))
        builder.finalize(f"{prefix}.idx")


def read_split(folder: Path, split: str, language: str, pair: str = "de-en") -> list[str]:
    """Return the sentences of one side of a split, in subwords."""
    dictionary = Dictionary.load(str(folder / f"dict.{language}.txt"))
    prefix = folder / f"{split}.{pair}.{language}"
    dataset = data_utils.load_indexed_dataset(str(prefix), dictionary)
    return [dictionary.string(dataset[line]) for line in range(len(dataset))]
