"""Let --bf16 choose the precision without asking for a TPU."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from fairseq import options
from fairseq.distributed import utils as distributed_utils


def _with_bf16_anywhere(parse: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(parse)
    def parse_args_and_arch(*args: Any, **kwargs: Any) -> Any:
        parsed = parse(*args, **kwargs)
        for part in parsed if isinstance(parsed, tuple) else (parsed,):
            if getattr(part, "bf16", False) and distributed_utils.xm is None:
                part.tpu = False
        return parsed

    parse_args_and_arch.knows_bf16 = True
    return parse_args_and_arch


def let_bf16_run_without_a_tpu() -> None:
    """Make --bf16 choose a precision, on GPUs and CPUs too.

    fairseq's command lines also set --tpu for --bf16, and stop if torch_xla is missing.
    fairseq-hydra-train does not set --tpu.
    """
    if not hasattr(options.parse_args_and_arch, "knows_bf16"):
        options.parse_args_and_arch = _with_bf16_anywhere(options.parse_args_and_arch)
