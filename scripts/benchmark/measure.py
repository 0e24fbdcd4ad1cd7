"""One measurement, in a process of its own: ``python -m benchmark.measure REQUEST RESULT``."""

from __future__ import annotations

import functools
import json
import logging
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# Before fairseq is imported, which sets logging up to show everything.
logging.basicConfig(level=logging.WARNING)

import torch  # noqa: E402
from fairseq import options, tasks, utils  # noqa: E402
from fairseq.dataclass.utils import convert_namespace_to_omegaconf  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from benchmark import kernels, memory  # noqa: E402
from benchmark.cases import CASES, Bench, CriterionCase, PlainCase, Run, Sample  # noqa: E402

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# How far the plain reference's loss may be from the criterion's, relative to it: it rounds its
# logits to the models' precision.
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 1e-2}


@dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes:
        case: a key of :data:`benchmark.cases.CASES`.
        options: fairseq-train's.
        batches: which pairs of the training set form each.
        device: "cpu" or "cuda".
        precision: of the models.
        threads: of torch on a CPU; 0 leaves its default.
        steps: timed steps; they go round the batches.
        warm_up: steps before these.
        seed: of the learner's weights and its dropout.
        profile: "step" or "loss_alone": name what takes its time, in place of measuring it.
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
    """What was measured; times in seconds, memory in bytes.

    Attributes:
        step: of each batch, its steps' times.
        loss_alone: likewise, of the loss alone (for the teacher: of its output projection).
        reading: how long each batch takes to be put together from the disk.
        tokens: target tokens of each batch, padding not counted.
        padded: target positions of each batch, padding counted.
        peak: the most memory held during the steps.
        before: the memory held before them.
        teacher_weights: the teacher's weights on the device.
        difference: between the plain reference's loss and the criterion's, relative.
        kernels: of a profile, see :class:`benchmark.kernels.Kernel`.
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
        RuntimeError: the plain reference's loss is not the criterion's.
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
                f"the plain reference's loss is {result.difference:.1e} off the criterion's"
            )
    return result


def build(request: Request, device: torch.device) -> Bench:
    """fairseq's own task, model and criterion, in fairseq-train's order."""
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
    """The batches, each put together by a data worker, as fairseq-train has it by default.

    They are read one at a time: nothing runs beside a step, and what the worker holds is not
    counted with the step's memory. For a GPU, whose memory is counted apart, each is read once and
    stays in the host's.
    """

    def __init__(self, dataset: Any, batches: list[list[int]], device: torch.device) -> None:
        """Take the dataset and which of its items form each batch."""
        self._dataset = dataset
        self._batches = batches
        self._device = device
        self._read: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> Sample:
        """A batch, on the device; every call gives new tensors."""
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
        """Seconds that the worker needs for a batch."""
        start = time.perf_counter()
        self._dataset.collater([self._dataset[item] for item in self._batches[number]])
        return time.perf_counter() - start


def time_steps(
    case: CriterionCase, reader: Reader, request: Request, device: torch.device, result: Result
) -> None:
    """Warm up, then time the steps; note the most memory held during these."""
    result.step = [[] for _ in request.batches]
    for step in range(-request.warm_up, request.steps):
        number = step % len(reader)
        sample = reader[number]
        if step == -request.warm_up:
            memory.release(device)
            result.before = memory.held(device)
        if step == 0:  # a compiler at work while it warms up is not what a step takes
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
    """Time the loss without the models; the first time of each batch warms up."""
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
    """Warm up, then look into one step, or loss alone, of each batch."""

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
    """Seconds by the wall clock, with the GPU's work done before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def teacher_weights(task: Any, device: torch.device, cached: bool) -> int:
    """Bytes of the teacher's weights on the device; with a cache, a GPU has its projection's."""
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
    """Read a request, write its result."""
    asked = Request(**json.loads(request.read_text(encoding="utf-8")))
    result.write_text(json.dumps(asdict(measure(asked))), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
