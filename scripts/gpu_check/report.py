"""What is written: a table of all parts, and below it what each found."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pipeline import files
from pipeline import report as pipeline_report
from tabulate import tabulate

from gpu_check.part import Outcome, Setting

NAME = "gpu_check"


def facts(setting: Setting, commit: str | None) -> dict[str, str]:
    """The card, and what else one needs to read the numbers."""
    system = pipeline_report.system()
    card = "none: this is the form for a CPU, which says nothing about a GPU"
    if setting.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        capability = f"{properties.major}.{properties.minor}"
        card = (
            f"{properties.name}, {properties.total_memory / 1e9:.0f} GB, compute capability "
            f"{capability}, CUDA {torch.version.cuda}"
        )
    return {
        "GPU": card,
        **system,
        "Commit": commit or system.get("Commit", "not known: no git here; name it with --commit"),
    }


def write(
    setting: Setting, outcomes: list[Outcome], about: dict[str, str], seconds: float, total: int
) -> Path:
    """Write the Markdown and the JSON; return the Markdown's path.

    Args:
        setting: how was checked.
        outcomes: of the parts until now.
        about: from :func:`facts`.
        seconds: since the start.
        total: how many parts there are.
    """
    path = setting.folder / f"{NAME}.md"
    rows = [
        {
            "part": outcome.part.title,
            "": outcome.status,
            "seconds": f"{outcome.seconds:.0f}",
            "found": "; ".join([*outcome.findings.errors, *_or_nothing(outcome.findings.summary)]),
        }
        for outcome in outcomes
    ]
    lines = [
        f"# GPU check: {setting.device}{', quick' if setting.quick else ''}",
        "",
        tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True),
        "",
        *(f"- {key}: {value}" for key, value in about.items()),
        f"- {len(outcomes)} of {total} parts in {seconds:.0f} s",
        "",
        *(outcome.findings.text for outcome in outcomes if outcome.findings.text),
    ]
    files.write_text(path, "\n".join(lines))
    files.write_json(path.with_suffix(".json"), _content(setting, outcomes, about, seconds))
    return path


def _or_nothing(text: str) -> list[str]:
    return [text] if text else []


def _content(
    setting: Setting, outcomes: list[Outcome], about: dict[str, str], seconds: float
) -> dict[str, Any]:
    return {
        "device": setting.device,
        "quick": setting.quick,
        "about": about,
        "seconds": seconds,
        "parts": [
            {
                "name": outcome.part.name,
                "title": outcome.part.title,
                "status": outcome.status,
                "seconds": outcome.seconds,
                "seconds_allowed": outcome.part.seconds,
                **{key: value for key, value in asdict(outcome.findings).items() if key != "text"},
            }
            for outcome in outcomes
        ],
    }
