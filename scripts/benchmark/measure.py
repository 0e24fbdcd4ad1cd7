"""Run one measurement in its own process: ``python -m benchmark.measure REQUEST RESULT``."""

from __future__ import annotations

import functools
import json
import logging
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# Must precede the import of fairseq, which sets logging up to show everything.
logging.basicConfig(level=logging.WARNING)

import torch  # noqa: E402
from fairseq import options, tasks, utils  # noqa: E402
from fairseq.dataclass.utils import convert_namespace_to_omegaconf  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from benchmark import kernels, memory  # noqa: E402
from benchmark.cases import CASES, Bench, CriterionCase, PlainCase, Run, Sample  # noqa: E402

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
        profile: "step" or "loss_alone": name the kernels of this part instead of timing it.
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
    profile: str = ""


@dataclass
class Result:
    """The result of a measurement; times in seconds, memory in bytes.

    Attributes:
        step: the times of the steps, for each batch.
        loss_alone: the times of the loss alone (teacher: of its output projection), for each batch.
        reading: the time to put each batch together from the disk.
        tokens: target tokens of each batch, without padding.
        padded: target positions of each batch, with padding.
        peak: the most memory held during the steps.
        before: the memory held before the steps.
        teacher_weights: the teacher's weights on the device.
        difference: relative difference between the plain reference's loss and the criterion's.
        kernels: the result of a profile, see :class:`benchmark.kernels.Kernel`.
    """

    step: list[list[float]] = field(default_factory=list)
    loss_alone: list[list[float]] = field(default_factory=list)
    reading: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    padded: list[int] = field(default_factory=list)
    peak: int = 0
    before: int = 0
    teacher_weights: int = 0
    difference: float | None = None
    kernels: list[dict[str, Any]] = field(default_factory=list)


def measure(request: Request) -> Result:
    """Build the case as fairseq-train would, and measure it.

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
    if request.profile:
        return Result(kernels=profile(case, reader, request, device))
    result = Result()
    time_steps(case, reader, request, device, result)
    if bench.task.teacher is not None:
        result.teacher_weights = teacher_weights(
            bench.task, device, cached=request.case == "cached"
        )
    time_loss_alone(case, reader, request, device, result)
    result.reading = [reader.time_reading(batch) for batch in range(len(request.batches))]
    if isinstance(case, PlainCase):
        result.difference = case.difference(reader[0])
        if not result.difference <= TOLERANCE[request.precision]:
            raise RuntimeError(
                f"the plain reference's loss is {result.difference:.1e} off the criterion's loss"
            )
    return result


def build(request: Request, device: torch.device) -> Bench:
    """Build fairseq's task, model and criterion, in fairseq-train's order."""
    parser = options.get_training_parser()
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, request.options))
    task = tasks.setup_task(cfg.task)
    model = task.build_model(cfg.model).to(device, DTYPES[request.precision]).train()
    criterion = task.build_criterion(cfg.criterion)
    if request.case in ("teacher", "products"):
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

    def time_reading(self, number: int) -> float:
        """Return the seconds that the worker needs for a batch."""
        start = time.perf_counter()
        self._dataset.collater([self._dataset[item] for item in self._batches[number]])
        return time.perf_counter() - start


def time_steps(
    case: CriterionCase, reader: Reader, request: Request, device: torch.device, result: Result
) -> None:
    """Warm up, then time the steps; record the most memory held during the timed steps."""
    result.step = [[] for _ in request.batches]
    for step in range(-request.warm_up, request.steps):
        number = step % len(reader)
        sample = reader[number]
        if step == -request.warm_up:
            memory.release(device)
            result.before = memory.held(device)
        if step == 0:  # leaves out a compiler that works during the warm-up
            memory.reset(device)
        case.bench.model.zero_grad(set_to_none=True)  # as fairseq's optimizers do
        seconds = timed(lambda sample=sample: case.step(sample), device)
        if step >= 0:
            result.step[number].append(seconds)
    result.peak = memory.peak(device)
    for number in range(len(reader)):
        targets = reader[number]["target"]
        result.tokens.append(int(targets.ne(case.bench.padding).sum()))
        result.padded.append(targets.numel())


def time_loss_alone(
    case: CriterionCase, reader: Reader, request: Request, device: torch.device, result: Result
) -> None:
    """Time the loss without the models; the first run of each batch is the warm-up."""
    case.bench.model.zero_grad(set_to_none=True)
    for number in range(len(reader)):
        run = case.loss_alone(reader[number])
        if run is None:
            return
        rounds = max(2, request.steps // len(reader)) + 1
        result.loss_alone.append([timed(run, device) for _ in range(rounds)][1:])


def profile(
    case: CriterionCase, reader: Reader, request: Request, device: torch.device
) -> list[dict[str, Any]]:
    """Warm up, then profile one step, or one loss alone, of each batch."""

    def step(sample: Sample) -> None:
        case.bench.model.zero_grad(set_to_none=True)
        case.step(sample)

    samples = [reader[number] for number in range(len(reader))]
    if request.profile == "loss_alone":
        runs = [case.loss_alone(sample) for sample in samples]
    else:
        runs = [functools.partial(step, sample) for sample in samples]
    for number in range(request.warm_up):
        runs[number % len(runs)]()
    return [asdict(kernel) for kernel in kernels.top(runs, device)]


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


def main(request: Path, result: Path) -> None:
    """Read a request, and write its result."""
    asked = Request(**json.loads(request.read_text(encoding="utf-8")))
    result.write_text(json.dumps(asdict(measure(asked))), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
