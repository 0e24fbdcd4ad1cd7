"""Run one measurement in its own process: ``python -m benchmark.measure REQUEST``."""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Must precede the import of fairseq, which sets logging up to show everything.
logging.basicConfig(level=logging.WARNING)

import torch  # noqa: E402
from fairseq import options, tasks, utils  # noqa: E402
from fairseq.dataclass.utils import convert_namespace_to_omegaconf  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from benchmark import memory  # noqa: E402
from benchmark.cases import CASES, Bench, CriterionCase, PlainCase, Run, Sample  # noqa: E402

MEGABYTE = 1e6
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# The largest relative difference between the plain reference's loss and the criterion's loss. The
# reference rounds its logits to the models' precision.
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 1e-2}


@dataclass(frozen=True)
class Request:
    """The description of a measurement.

    Attributes:
        case: a key of :data:`benchmark.cases.CASES`.
        options: the options for fairseq-train.
        batches: the indices of the training pairs of each batch.
        device: "cpu" or "cuda".
        precision: the models' precision.
        threads: torch's threads on a CPU; 0 leaves the default.
        steps: the number of timed steps; they cycle through the batches.
        warm_up: the number of steps before the timed steps.
        seed: the seed of the student's weights and dropout.
    """

    case: str
    options: list[str]
    batches: list[list[int]]
    device: str
    precision: str
    threads: int
    steps: int
    warm_up: int
    seed: int = 1


def measure(request: Request) -> dict[str, float | None]:
    """Build the case as fairseq-train would, and measure it.

    Returns:
        The figures: milliseconds (ms), megabytes of 10⁶ bytes (mb), target tokens a batch without
        and with padding. Times are means over the batches of their medians. ``before_mb`` is the
        memory held before the steps, ``teacher_mb`` that of the teacher's weights. ``difference``
        is the relative difference between the plain reference's loss and the criterion's.

    Raises:
        RuntimeError: the plain reference's loss differs from the criterion's loss.
    """
    if request.threads:
        torch.set_num_threads(request.threads)
    torch.manual_seed(request.seed)
    device = torch.device(request.device)
    bench = build(request, device)
    case = CASES[request.case](bench)
    reader = Reader(bench.task.dataset("train"), request.batches, device)
    found = time_steps(case, reader, request, device)
    if bench.task.teacher is not None:
        weights = teacher_weights(bench.task, device, cached=request.case == "cached")
        found["teacher_mb"] = weights / MEGABYTE
    found["loss_alone_ms"] = time_loss_alone(case, reader, request, device)
    if isinstance(case, PlainCase):
        found["difference"] = case.difference(reader[0])
        if not found["difference"] <= TOLERANCE[request.precision]:
            raise RuntimeError(
                f"the plain reference's loss is {found['difference']:.1e} off the criterion's loss"
            )
    return found


def build(request: Request, device: torch.device) -> Bench:
    """Build fairseq's task, model and criterion, in fairseq-train's order."""
    parser = options.get_training_parser()
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, request.options))
    task = tasks.setup_task(cfg.task)
    model = task.build_model(cfg.model).to(device, DTYPES[request.precision]).train()
    criterion = task.build_criterion(cfg.criterion)
    if request.case == "teacher":
        task.load_teacher()
    task.load_dataset("train")
    return Bench(task, model, criterion)


class Reader:
    """The batches; a data worker puts each together, as fairseq-train does by default.

    The batches are read one at a time. So nothing runs beside a step, and the worker's memory does
    not count with the step's memory. A GPU's memory is counted separately; for a GPU each batch is
    read once and stays in the host's memory.
    """

    def __init__(self, dataset: Any, batches: list[list[int]], device: torch.device) -> None:
        """Take the dataset, and the indices of each batch."""
        self._dataset = dataset
        self._batches = batches
        self._device = device
        self._read: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> Sample:
        """Return a batch on the device; every call returns new tensors."""
        batch = self._read.get(number) or self.put_together(number)
        if self._device.type != "cpu":
            self._read[number] = batch
        return utils.apply_to_sample(lambda tensor: tensor.to(self._device), batch)

    def put_together(self, number: int) -> Sample:
        loader = DataLoader(
            self._dataset,
            batch_sampler=[self._batches[number]],
            collate_fn=self._dataset.collater,
            num_workers=1,
        )
        (batch,) = loader
        return batch


def time_steps(
    case: CriterionCase, reader: Reader, request: Request, device: torch.device
) -> dict[str, float | None]:
    """Warm up, then time the steps; record the most memory held during the timed steps."""
    seconds: list[list[float]] = [[] for _ in request.batches]
    found: dict[str, float | None] = {"teacher_mb": 0.0, "difference": None}
    for step in range(-request.warm_up, request.steps):
        number = step % len(reader)
        sample = reader[number]
        if step == -request.warm_up:
            memory.release(device)
            found["before_mb"] = memory.held(device) / MEGABYTE
        if step == 0:  # leaves out a compiler that works during the warm-up
            memory.reset(device)
        case.bench.model.zero_grad(set_to_none=True)  # as fairseq's optimizers do
        taken = timed(lambda sample=sample: case.step(sample), device)
        if step >= 0:
            seconds[number].append(taken)
    found["peak_mb"] = memory.peak(device) / MEGABYTE
    found["step_ms"] = mean_of_medians(seconds)
    targets = [reader[number]["target"] for number in range(len(reader))]
    padding = case.bench.padding
    found["tokens"] = statistics.mean(int(target.ne(padding).sum()) for target in targets)
    found["padded_tokens"] = statistics.mean(target.numel() for target in targets)
    return found


def time_loss_alone(
    case: CriterionCase, reader: Reader, request: Request, device: torch.device
) -> float | None:
    """Time the loss without the models; the first run of each batch is the warm-up."""
    case.bench.model.zero_grad(set_to_none=True)
    seconds = []
    for number in range(len(reader)):
        run = case.loss_alone(reader[number])
        if run is None:
            return None
        rounds = max(2, request.steps // len(reader)) + 1
        seconds.append([timed(run, device) for _ in range(rounds)][1:])
    return mean_of_medians(seconds)


def mean_of_medians(seconds: list[list[float]]) -> float:
    """Return the mean over batches of their median milliseconds; all batches weigh the same."""
    return 1e3 * statistics.mean(map(statistics.median, seconds))


def timed(run: Run, device: torch.device) -> float:
    """Return the wall-clock seconds of a run; waits for the GPU before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def teacher_weights(task: Any, device: torch.device, cached: bool) -> int:
    """Return the bytes of the teacher's weights on the device.

    With a cache, a GPU holds only the weights of the projection.
    """
    (member,) = task.teacher.members
    if cached and device.type == "cuda":
        weight = member.decoder.output_projection.weight
        return weight.numel() * task.teacher_cache.storage.dtype.itemsize
    return sum(
        parameter.numel() * parameter.element_size()
        for parameter in member.parameters()
        if parameter.device.type == device.type
    )


if __name__ == "__main__":
    asked = Request(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print(json.dumps(measure(asked)))
