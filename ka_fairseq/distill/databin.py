"""Load a data-bin with fairseq. Token ids are read from disk when they are used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fairseq import utils
from fairseq.data import Dictionary, LanguagePairDataset, data_utils, indexed_dataset
from fairseq.data.concat_dataset import ConcatDataset
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from torch import Tensor

from ka_fairseq.errors import UserError
from ka_fairseq.export import dictionaries
from ka_fairseq.whole import written_whole

TRAIN, MONO = "train", "mono"
MONO_IDS = "mono.ids"
"""The name of the files with token ids of monolingual text; `MONO` is the name of a folder."""


@dataclass(frozen=True)
class Text:
    """Source sentences, with or without references.

    Attributes:
        name: `TRAIN`, or `MONO` for monolingual text. The folder of translations has this name.
        sources: token ids of each source sentence, with the end of the sentence.
        sizes: the number of token ids in each source sentence.
        references: token ids of each reference, with the end of the sentence, or None.
        files: the files of the sources.
    """

    name: str
    sources: Any
    sizes: np.ndarray
    references: Any | None
    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.sources)


@dataclass(frozen=True)
class DataBin:
    """A data-bin, as fairseq-preprocess wrote it.

    Attributes:
        task: fairseq's translation task, with the dictionaries.
        texts: the training text and, with ``--mono``, the monolingual text.
    """

    task: Any
    texts: tuple[Text, ...]

    @property
    def folder(self) -> Path:
        """The first folder of the data-bin, which has the dictionaries, valid and test."""
        return Path(utils.split_paths(self.task.cfg.data)[0])

    @property
    def languages(self) -> tuple[str, str]:
        """The source language and the target language."""
        return self.task.cfg.source_lang, self.task.cfg.target_lang

    @property
    def dictionaries(self) -> tuple[Dictionary, Dictionary]:
        """The dictionaries of source and target."""
        return self.task.source_dictionary, self.task.target_dictionary

    @property
    def dictionary_files(self) -> tuple[Path, Path]:
        """The files of the dictionaries of source and target."""
        return dictionaries.paths(self.folder, self.languages)

    def collate(self, lines: Sequence[int], sentences: Sequence[Tensor]) -> dict[str, Any]:
        """Return a batch in fairseq's form: sorted by length and padded.

        Args:
            lines: a number for each sentence; the numbers become the batch's ``id``.
            sentences: token ids of sources, with the end of the sentence.
        """
        samples = [
            {"id": line, "source": sentence, "target": None}
            for line, sentence in zip(lines, sentences, strict=True)
        ]
        return self._collating.collater(samples)

    @property
    def _collating(self) -> LanguagePairDataset:
        source, target = self.dictionaries
        cfg = self.task.cfg
        return LanguagePairDataset(
            *([], [], source, None, None, target),
            left_pad_source=cfg.left_pad_source,
            left_pad_target=cfg.left_pad_target,
        )


def config(data: Path, source: str, target: str) -> TranslationConfig:
    """Return the configuration of fairseq's translation task for a data-bin.

    Args:
        data: the folder of the data-bin.
        source: the source language.
        target: the target language.
    """
    return TranslationConfig(
        data=str(data),
        source_lang=source,
        target_lang=target,
        # fairseq-train takes these values from other sections of its configuration.
        train_subset=TRAIN,
        dataset_impl=None,
        required_seq_len_multiple=1,
    )


def load(task_cfg: Any, split: str) -> DataBin:
    """Load a split and the dictionaries.

    Args:
        task_cfg: the configuration of fairseq's translation task. `data` names one folder, or
            several with colons between them. The training splits of all folders are joined.
        split: ``train``, or another split.

    Raises:
        UserError: the folder, a dictionary or the split is missing or damaged.
    """
    task = _task(task_cfg)
    return DataBin(task, (_bitext(task, split),))


def unknown(sentence: Tensor, dictionary: Dictionary) -> bool:
    """Return whether a sentence has types that are not in the dictionary."""
    return bool((sentence == dictionary.unk()).any())


def subwords(sentence: Tensor, dictionary: Dictionary) -> list[str]:
    """Return the subwords of a sentence of token ids, without the end of the sentence."""
    symbols, end = dictionary.symbols, dictionary.eos()
    return [symbols[index] for index in sentence.tolist() if index != end]


def monolingual(data: DataBin, prefix: Path, folder: Path) -> Text:
    """Load source sentences that have no translation.

    Args:
        data: the data-bin with the dictionary of the sentences.
        prefix: the prefix of a data-bin's files, such as ``mono-bin/train``. Or a text file with
            one sentence per line, in subwords with spaces between them.
        folder: the folder to which token ids of a text file are written.

    Raises:
        UserError: the text is missing, or was binarized with another dictionary.
    """
    source, target = data.languages
    names = [f"{prefix}.{source}-{target}.{source}", f"{prefix}.{source}-None.{source}"]
    names += [f"{prefix}.{source}", str(prefix)]
    dictionary, _ = data.dictionaries
    for name in names:
        if indexed_dataset.dataset_exists(name, impl=None):
            _check_dictionary(Path(name).parent / f"dict.{source}.txt", dictionary)
            return _text(MONO, [_indexed(name, dictionary)], None, _files([Path(name)]))
    texts = [Path(name) for name in names if Path(name).is_file()]
    if not texts:
        raise UserError(
            f"--mono {prefix}: found no {Path(names[0]).name}.bin and no text file: give the "
            "prefix of a data-bin's files, such as mono-bin/train, or a text file of subwords"
        )
    ids = _binarized(texts[0], dictionary, folder / MONO_IDS)
    return _text(MONO, [_indexed(str(ids), dictionary)], None, _files([ids]))


def _task(cfg: Any) -> Any:
    folder = Path((utils.split_paths(cfg.data or "") or [""])[0])
    found = dictionaries.find_languages(folder, cfg.source_lang, cfg.target_lang)
    cfg.source_lang, cfg.target_lang = found
    for path in dictionaries.paths(folder, found):
        if not path.is_file():
            there = ", ".join(sorted(file.name for file in folder.glob("dict.*.txt")))
            raise UserError(
                f"no {path.name} in {folder} (dictionaries there: {there or 'none'}): give another "
                "data-bin, or correct --source-lang and --target-lang"
            )
    try:
        return TranslationTask.setup_task(cfg)
    except (ValueError, AssertionError, UnicodeError) as error:
        raise UserError(f"the dictionaries in {folder} cannot be read: {error}") from error


def _bitext(task: Any, split: str) -> Text:
    folders = utils.split_paths(task.cfg.data)
    parts = folders if split == task.cfg.train_subset else folders[:1]
    if task.cfg.upsample_primary < 1:  # how often fairseq repeats train.*; default: -1
        task.cfg.upsample_primary = 1
    loaded = []
    for epoch, folder in enumerate(parts, start=1):
        try:
            task.load_dataset(split, epoch=epoch, combine=True)
            pairs = task.dataset(split)
            _check_end(pairs.src, pairs.tgt)
        except FileNotFoundError:
            raise UserError(
                f"{folder} has no split {split} of {task.cfg.source_lang}-{task.cfg.target_lang}: "
                "give another --gen-subset"
            ) from None
        except (OSError, ValueError, AssertionError, IndexError) as error:
            raise UserError(f"the split {split} in {folder} cannot be read: {error}") from error
        loaded.append(pairs)
    sources = [pairs.src for pairs in loaded]
    references = [pairs.tgt for pairs in loaded]
    there = all(reference is not None for reference in references)
    source, target = task.cfg.source_lang, task.cfg.target_lang
    files = [
        path
        for folder in parts
        for order in (f"{source}-{target}", f"{target}-{source}")
        for path in sorted(Path(folder).glob(f"{split}*.{order}.{source}*"))
    ]
    return _text(TRAIN, sources, references if there else None, tuple(files))


def _text(
    name: str, sources: list[Any], references: list[Any] | None, files: tuple[Path, ...]
) -> Text:
    sizes = np.concatenate([np.asarray(part.sizes) for part in sources])
    return Text(name, _joined(sources), sizes, references and _joined(references), files)


def _joined(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else ConcatDataset(parts)


def _check_end(*datasets: Any) -> None:
    """Read the last sentence, which fails if the file is truncated."""
    for dataset in datasets:
        if dataset is not None and len(dataset):
            dataset[len(dataset) - 1]


def _indexed(name: str, dictionary: Dictionary) -> Any:
    try:
        found = data_utils.load_indexed_dataset(name, dictionary)
        _check_end(found)
    except (OSError, ValueError, AssertionError, IndexError) as error:
        raise UserError(f"{name} cannot be read: {error}") from error
    return found


def _files(names: Sequence[Path]) -> tuple[Path, ...]:
    return tuple(Path(f"{name}{end}") for name in names for end in (".bin", ".idx"))


def _check_dictionary(path: Path, dictionary: Dictionary) -> None:
    if path.is_file() and Dictionary.load(str(path)).symbols != dictionary.symbols:
        raise UserError(
            f"--mono: {path} differs from the data-bin's dictionary: binarize the text with "
            "fairseq-preprocess --srcdict and the data-bin's dictionary"
        )


def _binarized(text: Path, dictionary: Dictionary, prefix: Path) -> Path:
    """Write a text file's token ids as fairseq-preprocess does, one line at a time."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    data, index = map(str, _files([prefix]))
    with written_whole(data) as unfinished, written_whole(index) as unfinished_index:
        builder = indexed_dataset.make_builder(unfinished, "mmap", len(dictionary))
        for sentence in _lines(text, dictionary):
            builder.add_item(sentence)
        builder.finalize(unfinished_index)
    return prefix


def _lines(text: Path, dictionary: Dictionary) -> Iterator[Tensor]:
    try:
        with text.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                yield dictionary.encode_line(line, add_if_not_exist=False)
    except UnicodeDecodeError as error:
        raise UserError(f"--mono {text} is no UTF-8 text: {error}") from None
