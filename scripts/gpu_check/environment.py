"""What has to be there before anything runs; imports nothing that may be missing."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Iterable

PACKAGES = (
    *("torch", "fairseq", "hydra", "omegaconf", "numpy", "pandas", "yaml", "tabulate", "tqdm"),
    *("psutil", "sacrebleu", "matplotlib"),
)
FOR_TESTS = ("pytest", "xdist", "filelock", "hypothesis")


def missing(packages: Iterable[str]) -> list[str]:
    """The modules among these that this Python does not have."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def check(device: str) -> None:
    """End with one line if the check cannot run.

    Raises:
        SystemExit: packages are missing, or there is no GPU.
    """
    if lacking := missing(PACKAGES):
        raise SystemExit(
            f"error: Python {platform.python_version()} at {sys.executable} lacks "
            f"{', '.join(lacking)}: run scripts/setup.sh dev, or name another with PYTHON"
        )
    import torch

    if device == "cpu" or torch.cuda.is_available():
        return
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    raise SystemExit(
        f"error: torch {torch.__version__}, built {built}, finds no GPU here: the form for a CPU "
        "is --device cpu --quick"
    )
