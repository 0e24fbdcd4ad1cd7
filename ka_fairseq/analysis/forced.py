"""Run models over a split with teacher forcing: predict after every prefix of the reference.

The code visits the positions of a split in batches of sentences and, within a batch, in chunks of
rows. Each chunk has its own (positions × types) tensors, which are freed after the chunk. So the
memory does not grow with the split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from fairseq import checkpoint_utils, tasks, utils
from fairseq.data import FairseqDataset, data_utils
from torch import Tensor
from tqdm import tqdm

import ka_fairseq  # noqa: F401  registers the tasks that checkpoints name
from ka_fairseq import task_traits
from ka_fairseq.errors import UserError
from ka_fairseq.loss.chunks import chunk_rows, slices
from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.positions import select, target_rows
from ka_fairseq.teacher.frozen import FrozenTeacher


class Chunk(NamedTuple):
    """A chunk of n target positions.

    Attributes:
        rows: number of each position, counted from 0 through the sentences in the requested order;
            shape (n,).
        sentences: index of each position's sentence in the split; shape (n,).
        positions: index of each position in its sentence, from 0; shape (n,).
        targets: the reference's token at each position; shape (n,).
        distributions: the distribution of each model over all types.
    """

    rows: Tensor
    sentences: Tensor
    positions: Tensor
    targets: Tensor
    distributions: list[Distribution]

    @property
    def lprobs(self) -> list[Tensor]:
        """Log-probabilities of each model, float32, in nats; shape (n, V) each."""
        return [distribution.lprobs for distribution in self.distributions]


@dataclass(frozen=True)
class Corpus:
    """A binarized split, and the settings for running models over it.

    Attributes:
        task: fairseq's task, with the dictionaries.
        split: the split's name.
        folder: the folder of the split.
        device: the device of the models.
        max_tokens: tokens in a batch, padding included; changes memory and speed, not the numbers.
    """

    task: Any
    split: str
    folder: Path
    device: torch.device
    max_tokens: int = 4000

    @classmethod
    def open(
        cls,
        folder: Path,
        split: str,
        like: Path,
        languages: tuple[str | None, str | None] = (None, None),
        device: torch.device | None = None,
        max_tokens: int = 4000,
    ) -> Corpus:
        """Read a split of a data-bin.

        Args:
            folder: the ``--destdir`` of fairseq-preprocess.
            split: train, valid, test, …
            like: a checkpoint. The task has the settings of the checkpoint's training. They also
                decide the blocks of a language model's text.
            languages: source and target; None means the checkpoint's language.
            device: None means CUDA if a GPU is present, else the CPU.
            max_tokens: see :class:`Corpus`.

        Raises:
            UserError: the split, its references or the dictionaries are missing, or ``like`` is no
                fairseq checkpoint.
        """
        overrides = {"data": str(folder)}
        for side, language in zip(("source_lang", "target_lang"), languages, strict=True):
            if language:
                overrides[side] = language
        cfg = checkpoint_utils.load_checkpoint_to_cpu(str(like), overrides).get("cfg")
        if cfg is None:
            raise UserError(f"{like} has no configuration: give a file that fairseq-train wrote")
        try:
            if not any(folder.glob("*.idx")):
                raise FileNotFoundError("no binarized text")
            task = tasks.setup_task(cfg.task)
            task.load_dataset(split)
        except FileNotFoundError as error:
            raise _no_such_split(folder, split, cfg.task, error) from error
        if task_traits.is_language_modeling(task):
            if any(languages):
                raise UserError(
                    f"{like} is a language model, without source and target: leave "
                    f"--source-lang and --target-lang out"
                )
        elif getattr(task.dataset(split), "tgt", None) is None:
            raise UserError(
                f"{split!r} in {folder} has no references: give a split with both sides"
            )
        if device is None:
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return cls(task, split, folder, device, max_tokens)

    @property
    def dataset(self) -> FairseqDataset:
        """The sentence pairs, or the blocks of a language model's text."""
        return self.task.dataset(self.split)

    @property
    def lengths(self) -> np.ndarray:
        """The number of target positions in each sentence, end-of-sentence included."""
        return task_traits.lengths(self.dataset)[-1]

    def load(self, paths: str | Path, dictionaries: Path | None = None) -> FrozenTeacher:
        """Load a trained model, frozen, in float32, on the corpus's device.

        Args:
            paths: the model's checkpoint; several, separated by colons, form an ensemble.
            dictionaries: folder with the model's dictionaries, which must equal the corpus's. None
                skips the check, as fairseq-generate does.

        Raises:
            UserError: see :meth:`FrozenTeacher.load`.
        """
        folder = str(dictionaries or self.folder)
        model = FrozenTeacher.load(str(paths), self.task, dtype="fp32", data=folder)
        return model.to(torch.empty(0, device=self.device))

    def all_sentences(self) -> np.ndarray:
        """Return the indices of all sentences within the task's length limits, in order."""
        everything = np.arange(len(self.dataset))
        return self.task.filter_indices_by_size(
            everything,
            self.dataset,
            task_traits.max_positions(self.task),
            ignore_invalid_inputs=True,
        )

    def sample(self, size: int, seed: int) -> np.ndarray:
        """Return the indices of ``size`` sentences drawn without replacement; at most all."""
        sentences = self.all_sentences()
        if size >= len(sentences):
            return sentences
        return np.sort(np.random.default_rng(seed).choice(sentences, size, replace=False))

    def count_positions(self, sentences: np.ndarray) -> int:
        """Return the number of target positions in some sentences, end-of-sentence included."""
        return int(self.lengths[sentences].sum())

    def check_sentence(self, sentence: int, position: int = 0) -> None:
        """Check that a sentence and a position in it exist.

        Raises:
            UserError: there is no such sentence or position.
        """
        if not 0 <= sentence < len(self.dataset):
            raise UserError(
                f"--sentence must lie between 0 and {len(self.dataset) - 1} in {self.split}, "
                f"not {sentence}"
            )
        length = int(self.lengths[sentence])
        if not 0 <= position < length:
            raise UserError(
                f"--position must lie between 0 and {length - 1} (the end of sentence {sentence}), "
                f"not {position}"
            )

    @torch.inference_mode()
    def walk(
        self, models: Sequence[FrozenTeacher], sentences: np.ndarray, label: str = ""
    ) -> Iterator[Chunk]:
        """Yield each model's predictions at every target position of some sentences.

        Args:
            models: one or more models, run on the same batches.
            sentences: indices of sentences in the split.
            label: the text of the progress bar.

        Yields:
            Chunks with every position once. Sentences come sorted by length, not in the requested
            order.
        """
        first_row = np.zeros(len(self.dataset), dtype=np.int64)
        lengths = self.lengths[sentences]
        first_row[sentences] = np.cumsum(lengths) - lengths
        first_row = torch.from_numpy(first_row).to(self.device)
        step = chunk_rows(len(self.task.target_dictionary), 2 * len(models), self.device)
        pad = self.task.target_dictionary.pad()
        for batch in tqdm(self._batches(sentences), label, unit="batch", leave=False, disable=None):
            sample = self.dataset.collater([self.dataset[index] for index in batch])
            sample = utils.apply_to_sample(lambda tensor: tensor.to(self.device), sample)
            not_pad = sample["target"].ne(pad)
            kept = target_rows(sample["target"], pad)
            outputs = [model.answer(sample["net_input"], kept).prepare() for model in models]
            sentence = select(sample["id"].unsqueeze(1).expand(-1, not_pad.size(1)), kept)
            position = select(not_pad.cumsum(1) - 1, kept)
            target = select(sample["target"], kept)
            for rows in slices(len(target), step):
                yield Chunk(
                    first_row[sentence[rows]] + position[rows],
                    sentence[rows],
                    position[rows],
                    target[rows],
                    [output.distribution(rows) for output in outputs],
                )

    def _batches(self, sentences: np.ndarray) -> list[np.ndarray]:
        lengths = self.dataset.num_tokens_vec(sentences).astype(np.int64)
        order = np.argsort(lengths, kind="stable")
        return data_utils.batch_by_size(
            sentences[order],
            num_tokens_fn=self.dataset.num_tokens,
            num_tokens_vec=lengths[order],
            max_tokens=max(self.max_tokens, int(lengths.max(initial=0))),
        )


def _no_such_split(folder: Path, split: str, task_cfg: Any, error: FileNotFoundError) -> UserError:
    there = sorted({file.name.split(".")[0] for file in folder.glob("*.idx")})
    languages, options = "", "--data and --split"
    if hasattr(task_cfg, "source_lang"):
        languages = f" for {task_cfg.source_lang or '?'}-{task_cfg.target_lang or '?'}"
        options = "--data, --split, --source-lang and --target-lang"
    return UserError(
        f"no split {split!r}{languages} in {folder} (there: {', '.join(there) or 'none'}; "
        f"{error}): check {options}"
    )
