"""The records that fairseq writes with ``log_format: json``, read from a stage's log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_PARAMETERS = re.compile(r"num\. shared model params: ([\d,]+)")


def parse(line: str) -> dict[str, Any] | None:
    """Return the record in a line of the log, or None if there is no record."""
    start = line.find('{"epoch"')
    if start < 0:
        return None
    try:
        return json.loads(line[start:])
    except json.JSONDecodeError:  # cut off by a kill
        return None


def read(log: Path) -> list[dict[str, Any]]:
    """Return all records of a log, in their order."""
    with log.open(encoding="utf-8", errors="replace") as file:
        return [record for line in file if (record := parse(line)) is not None]


def by_epoch(records: Iterable[dict[str, Any]], key: str) -> dict[int, float]:
    """Return the value of `key` for each epoch that has one.

    The last value of an epoch counts: an interrupted training repeats its epoch.
    """
    return {record["epoch"]: float(record[key]) for record in records if key in record}


def parameters(log: Path) -> int | None:
    """Return the number of parameters that fairseq counted."""
    match = _PARAMETERS.search(log.read_text(encoding="utf-8", errors="replace"))
    return int(match[1].replace(",", "")) if match else None
