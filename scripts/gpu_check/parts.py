"""All parts, in groups: what times nothing may run side by side."""

from __future__ import annotations

from gpu_check import speed, training, unit_tests
from gpu_check.part import Part

# fairseq's fp16 is for a GPU: on a CPU its optimizer neither flattens gradients nor gets over an
# update that overflows.
_PRECISIONS = {"cuda": ("fp16", "bf16", "amp"), "cpu": ("bf16", "amp")}


def groups_of(device: str, quick: bool) -> list[list[Part]]:
    """The parts; a group's need nothing of each other.

    How long each may take is for a machine where processes begin slowly: on one with an H200 it
    took 90 s to ``prepare``, and up to 30 s until a process had done its first step. Elsewhere 15 s
    are expected of ``prepare``, 90 s of the second group, 190 s and 130 s of the last two.
    """
    prepare = Part("prepare", "text and teacher", training.prepare, 150)
    tests = Part("tests", "GPU tests", unit_tests.run, 300)
    trainings = [
        Part(f"train-{name}", f"training, {name}", training.in_precision(name), 300, "prepare")
        for name in _PRECISIONS[device]
    ]
    return [[prepare], [tests, *trainings], *([part] for part in _of_speed(quick))]


def _of_speed(quick: bool) -> list[Part]:
    if quick:
        work = speed.small(("chunked", "compiled"))
        return [Part("speed", "speed, tiny models", work, 180)]
    return [
        Part(
            "speed-4096",
            "speed, 4,096 tokens",
            speed.of_tokens(4096, ("plain", "chunked", "compiled", "cached")),
            400,
        ),
        Part(
            "speed-8192",
            "speed, 8,192 tokens",
            speed.of_tokens(8192, ("chunked", "compiled", "cached")),
            400,
        ),
    ]
