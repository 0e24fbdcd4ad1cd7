"""Measure the KL that a smaller teacher cache costs, for 16 and 8 bits and for low-rank bases.

python examples/cache_precision.py data-bin teacher.pt [positions]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from ka_fairseq.analysis.forced import Corpus
from ka_fairseq.loss.positions import target_rows
from ka_fairseq.teacher.cache.storage import STORAGES

CHUNK = 1000


def states_of(corpus: Corpus, teacher: str, positions: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a teacher's decoder states at random sentences, and its output projection.

    The shapes are (N, d), (V, d) and (V,).
    """
    model, found = corpus.load(teacher), []
    sentences = torch.randperm(len(corpus.dataset), generator=torch.Generator().manual_seed(1))
    for part in sentences.split(64):
        batch = corpus.dataset.collater([corpus.dataset[int(n)] for n in part])
        rows = target_rows(batch["target"], corpus.task.target_dictionary.pad())
        found.append(model.answer(batch["net_input"], rows).members[0])
        if sum(len(output.hidden) for output in found) >= positions:
            break
    bias = found[0].bias
    weight = found[0].weight.double()
    bias = torch.zeros(len(weight)) if bias is None else bias
    return (
        torch.cat([output.hidden for output in found]).double()[:positions],
        weight,
        bias.double(),
    )


def divergence(states: Tensor, kept: Tensor, weight: Tensor, bias: Tensor) -> float:
    """Return KL(teacher ‖ kept) as a mean over positions, in nats."""
    total = 0.0
    for exact, other in zip(states.split(CHUNK), kept.split(CHUNK), strict=True):
        q, r = (torch.log_softmax(part @ weight.T + bias, -1) for part in (exact, other))
        total += float((q.exp() * (q - r)).sum())
    return total / len(states)


def fisher(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return F, the mean of Wᵀ (diag q − q qᵀ) W, of shape (d, d).

    For a small error δ of a state, KL ≈ ½ δᵀ F δ.
    """
    total = torch.zeros(weight.size(1), weight.size(1), dtype=weight.dtype)
    for part in states.split(CHUNK):
        q = torch.softmax(part @ weight.T + bias, -1)
        mean = q @ weight
        total += weight.T @ (q.sum(0)[:, None] * weight) - mean.T @ mean
    return total / len(states)


def basis(states: Tensor, metric: Tensor) -> Callable[[Tensor, int], Tensor]:
    """Fit principal axes in a metric.

    The returned function projects states to their first `rank` axes.
    """
    root = torch.linalg.cholesky(
        metric + 1e-6 * metric.trace() / len(metric) * torch.eye(len(metric))
    )
    mean = states.mean(0)
    centred = (states - mean) @ root
    axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)
    back = torch.linalg.solve(root.T, axes)
    return lambda part, rank: mean + ((part - mean) @ root @ axes[:, :rank]) @ back[:, :rank].T


def main(data: str, teacher: str, positions: str = "16000") -> None:
    """Print the table.

    Bases are fitted on three quarters of the positions. All rows are measured on the last quarter.
    """
    corpus = Corpus.open(Path(data), "train", like=Path(teacher))
    states, weight, bias = states_of(corpus, teacher, int(positions))
    fitted, measured = states.split([3 * len(states) // 4, len(states) - 3 * len(states) // 4])
    width, rows = weight.size(1), []
    for name, storage in STORAGES.items():
        kept = storage.unpack(*storage.pack(measured.float())).double()
        size = width * torch.tensor([], dtype=storage.dtype).element_size()
        size = size if storage.exact else width + 4
        rows.append((name, size + 8, divergence(measured, kept, weight, bias)))
    centred = weight - weight.mean(0)
    metrics = {
        "the states": torch.eye(width, dtype=weight.dtype),
        "WᵀW": centred.T @ centred / len(weight),
        "Fisher": fisher(fitted, weight, bias),
    }
    for of, metric in metrics.items():
        keep = basis(fitted, metric)
        for part, rank in (("¾", 3 * width // 4), ("½", width // 2), ("¼", width // 4)):
            kept = divergence(measured, keep(measured, rank), weight, bias)
            rows.append((f"{part} of the width, fp16, axes by {of}", 2 * rank + 8, kept))
    print(tabulate(rows, ("kept as", "bytes a position", "KL, nats"), floatfmt=".1e"))


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: cache_precision.py DATA TEACHER [POSITIONS]")
    main(*sys.argv[1:])
