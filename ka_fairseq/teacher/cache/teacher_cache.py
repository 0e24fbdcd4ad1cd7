"""TeacherCache: run a frozen teacher once for each sentence pair, and store its answers."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from fairseq.data import Dictionary, FairseqDataset
from torch import Tensor

from ka_fairseq import models, task_traits
from ka_fairseq.errors import UserError
from ka_fairseq.loss.chunks import chunk_rows, slices
from ka_fairseq.loss.ensemble import TeacherOutput, averaged_softmax
from ka_fairseq.loss.matmul import factor
from ka_fairseq.loss.positions import target_rows
from ka_fairseq.loss.projection import Projection
from ka_fairseq.teacher.cache import fingerprint
from ka_fairseq.teacher.cache.cached_dataset import KEY, CachedTeacherDataset
from ka_fairseq.teacher.cache.storage import STORAGES
from ka_fairseq.teacher.cache.store import Layout, Record, Store
from ka_fairseq.teacher.frozen import FrozenTeacher

logger = logging.getLogger(__name__)


class TeacherCache:
    """A teacher's stored answers for a task's datasets, and the teacher for missing answers.

    Attributes:
        folder: the cache's folder.
        teacher: computes missing answers. Its output projections are always copied to the
            student's device. Its encoder and decoder move there at the first missing answer.
        storage: the storage format of hidden states.
    """

    def __init__(
        self,
        folder: str,
        teacher: FrozenTeacher,
        dtype: str,
        paths: str,
        dictionaries: list[Dictionary],
    ) -> None:
        """Open a cache, or begin a new cache.

        Args:
            folder: the cache's folder, which may not exist yet.
            teacher: a teacher with a precision of its own, independent of the student's.
            dtype: a key of :data:`.storage.STORAGES`.
            paths: paths of the teacher's checkpoints, separated by colons.
            dictionaries: the task's dictionaries.

        Raises:
            UserError: unknown ``dtype``; a teacher without a plain output projection; the cache was
                made with another teacher, dictionary or precision; the folder cannot be written.
        """
        if dtype not in STORAGES:
            raise UserError(
                f"unknown --teacher-cache-dtype {dtype!r}; choose from {', '.join(STORAGES)}"
            )
        for member in teacher.members:
            if not models.has_plain_projection(member):
                raise UserError(
                    f"--teacher-cache needs a teacher whose logits are a plain projection of its "
                    f"decoder's features; {type(member).__name__} with its options has no such "
                    f"projection: train without a cache"
                )
        self.folder = Path(folder)
        self.teacher = teacher
        self.storage = STORAGES[dtype]
        self._widths = [member.decoder.output_projection.in_features for member in teacher.members]
        self._datasets: dict[str, CachedTeacherDataset] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            fingerprint.check(
                self.folder / "teacher.json",
                {
                    "teacher": fingerprint.of_files(paths.split(os.pathsep)),
                    "dictionary": fingerprint.of_dictionaries(dictionaries),
                    "storage precision": dtype,
                    "precision of the projection": dtype,
                    "teacher precision": str(teacher.dtype).removeprefix("torch."),
                },
                self.folder,
            )
        except OSError as error:
            raise UserError(
                f"cannot use the teacher cache {folder}: {error.strerror}; check --teacher-cache"
            ) from error

    def wrap(self, dataset: FairseqDataset, pad: int, name: str) -> CachedTeacherDataset:
        """Return a dataset whose batches contain stored answers.

        Args:
            dataset: the dataset that fairseq's task loaded.
            pad: padding index of its samples.
            name: the name of the split and of its part.

        Raises:
            UserError: the cache was made with another dataset, or the disk is too small.
        """
        folder = self.folder / name
        lengths, members = task_traits.lengths(dataset), len(self._widths)
        # A position has each model's normalizer, the ensemble's entropy, and each model's scales.
        normalizers = members + 1 + members * self.storage.scales
        layout = Layout(sum(self._widths), self.storage.numbers, normalizers)
        store = Store(folder, lengths[-1], layout, task_traits.sample_name(dataset))
        folder.mkdir(exist_ok=True)
        of_dataset = {"dataset": fingerprint.of_lengths(lengths)}
        fingerprint.check(folder / "dataset.json", of_dataset, folder)
        store.check_room()
        self._datasets[name] = CachedTeacherDataset(dataset, pad, name, store)
        return self._datasets[name]

    @torch.no_grad()
    def answer(self, sample: Mapping[str, Any], rows: Tensor, pad: int) -> TeacherOutput:
        """Return the teacher's answer to a batch; compute and store a missing answer.

        Args:
            sample: a batch of a dataset from :meth:`wrap`.
            rows: the target positions to answer, from :func:`.positions.target_rows`.
            pad: padding index of targets.

        Raises:
            UserError: a number is too large for the storage precision.
        """
        entry = sample[KEY]
        # Stored answers must not depend on the student's options, such as --amp.
        with torch.autocast(rows.device.type, enabled=False):
            if "hidden" in entry:
                hidden, normalizers = entry["hidden"], entry["normalizers"]
            else:
                hidden, normalizers = self._ask(sample, pad)
                self.write(sample, pad, hidden, normalizers)
        if len(rows) < len(hidden):  # positions of an ignored prefix have answers, but no loss
            place = sample["target"].ne(pad).flatten().cumsum(0) - 1
            stored = place.index_select(0, rows)
            hidden, normalizers = (
                hidden.index_select(0, stored),
                normalizers.index_select(0, stored),
            )
        return self._restore(hidden, normalizers)

    @torch.no_grad()
    def error(self, sample: Mapping[str, Any], pad: int) -> float:
        """Return the error of stored answers for a batch; store nothing.

        Args:
            sample: a batch of a dataset from :meth:`wrap`.
            pad: padding index of targets.

        Returns:
            KL(q ‖ q restored from the cache), the mean over the target positions, in nats.
        """
        rows = target_rows(sample["target"], pad)
        said = self.teacher.to(torch.empty(0, device=rows.device)).answer(sample["net_input"], rows)
        both = said.prepare(), self._restore(*self._ask(sample, pad)).prepare()
        step = chunk_rows(said.members[0].vocabulary, 4 * len(said.members), rows.device)
        total = 0.0
        for chunk in slices(len(rows), step):
            exact, kept = (averaged_softmax(output.logits(chunk)) for output in both)
            total += float((exact.probs * (exact.lprobs - kept.lprobs)).sum(dtype=torch.float64))
        return total / len(rows)

    def _ask(self, sample: Mapping[str, Any], pad: int) -> tuple[Tensor, Tensor]:
        """Run the teacher; return hidden states in storage format, and normalizers with scales."""
        rows = target_rows(sample["target"], pad)
        teacher = self.teacher.to(torch.empty(0, device=rows.device))
        answer = teacher.answer(sample["net_input"], rows)
        packed = (self.storage.pack(member.hidden) for member in answer.members)
        hidden, scales = (torch.cat(parts, dim=-1) for parts in zip(*packed, strict=True))
        # The loss will use the rounded states and projection. Normalizers that are computed from
        # them make each position's probabilities add up to 1.
        projections = self._projections(hidden, scales)
        for projection in projections:
            self._check_finite("hidden states", projection.hidden)
        numbers = _normalizers_and_entropy(TeacherOutput(projections).prepare())
        return hidden, torch.cat([numbers, scales.double()], dim=-1)

    def _restore(self, hidden: Tensor, normalizers: Tensor) -> TeacherOutput:
        members = len(self._widths)
        *of_members, entropy = normalizers[:, : members + 1].unbind(-1)
        projections = self._projections(hidden, normalizers[:, members + 1 :])
        return TeacherOutput(
            [
                Projection(*projection.inputs, normalizer)
                for projection, normalizer in zip(projections, of_members, strict=True)
            ],
            entropy,
        )

    def _projections(self, hidden: Tensor, scales: Tensor) -> list[Projection]:
        members, unpack = len(self._widths), self.storage.unpack
        parts = hidden.split(self._widths, dim=-1)
        scales = scales.unflatten(-1, (members, self.storage.scales)).unbind(1)
        return [
            Projection(unpack(*kept), *layer)
            for *kept, layer in zip(parts, scales, self.layers(hidden.device), strict=True)
        ]

    @functools.lru_cache(maxsize=2)  # noqa: B019  the process has one cache, until it ends
    def layers(self, device: torch.device) -> list[tuple[Tensor, Tensor | None]]:
        """Return weight and bias of each member's output projection, on a device.

        Weights are rounded to the storage precision, like hidden states. So a GPU's tensor cores
        can multiply both. The tensors are copies, because the teacher's own weights move between
        devices.
        """
        layers = [member.decoder.output_projection for member in self.teacher.members]
        own = {"device": device, "copy": True}
        for layer in layers:
            self._check_finite("output projection", layer.weight.to(self.storage.dtype))
        return [
            (
                factor(layer.weight.detach().to(dtype=self.storage.dtype, **own)),
                None if layer.bias is None else layer.bias.detach().to(dtype=torch.float32, **own),
            )
            for layer in layers
        ]

    def _check_finite(self, what: str, stored: Tensor) -> None:
        if not torch.isfinite(stored).all():
            raise UserError(
                f"the teacher's {what} are too large for fp16: pass --teacher-cache-dtype bf16 and "
                f"another --teacher-cache"
            )

    def write(
        self, sample: Mapping[str, Any], pad: int, hidden: Tensor, normalizers: Tensor
    ) -> None:
        """Store the answers for a batch; see :meth:`answer` for ``sample`` and ``pad``.

        Args:
            sample: the batch.
            pad: padding index.
            hidden: hidden states of all target positions, in storage format.
            normalizers: normalizers, entropy and scales of the same positions.
        """
        dataset = self._datasets[sample[KEY]["split"]]
        ids = sample["id"].tolist()
        # --pad-to-fixed-bsz adds rows that are not samples, at the end.
        lengths = sample["target"].ne(pad).sum(1).tolist()[: len(ids)]
        records = zip(
            ids,
            hidden.cpu().split(lengths),
            normalizers.float().cpu().split(lengths),
            strict=True,
        )
        for index, of_hidden, of_normalizers in records:
            dataset.write(index, Record(of_hidden.numpy(), of_normalizers.numpy()))


def _normalizers_and_entropy(output: TeacherOutput) -> Tensor:
    """Return each model's log-normalizer and the ensemble's entropy, shape (N, members + 1)."""
    weight, hidden = output.members[0].weight, output.members[0].hidden
    step = chunk_rows(len(weight), 3 * len(output.members), weight.device)
    chunks = []
    for rows in slices(len(hidden), step):
        logits = output.logits(rows)
        normalizers = [of_member.logsumexp(-1) for of_member in logits]
        chunks.append(torch.stack([*normalizers, averaged_softmax(logits).entropy], dim=-1))
    return torch.cat(chunks).double()
