"""Stage `report`: one table, plots and a page of all that was trained and evaluated."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pipeline.engine import files, state
from pipeline.models import lenpen, training_log, translators
from pipeline.models.settings import REPOSITORY, Pair
from pipeline.results import (
    caveats,
    evaluate,
    gap_recovered,
    operating_points,
    page,
    plots,
    point_tables,
    quality_over_speed,
    significance,
    speed,
    tables,
    tidy,
)


def build(pair: Pair) -> str:
    """Write ``report.md``, ``report.json``, the plots and ``report.html``.

    Returns:
        The text of ``report.md``.
    """
    curves = {name: curve(pair, name, "valid_bleu") for name in pair.titles}
    content = collect(pair, curves)
    text = markdown(content, pair.titles)
    plots.plot_validation_bleu(curves, pair.models, pair.run_dir / "validation_bleu")
    divergences = {name: curve(pair, name, "valid_transfer_loss") for name in pair.titles}
    plots.plot_transfer_loss(divergences, pair.models, pair.run_dir / "transfer_loss")
    files.write_json(pair.run_dir / "report.json", content)
    files.write_text(pair.run_dir / "report.md", text)
    quality_over_speed.draw(
        content["operating_points"], pair.models, pair.run_dir / "quality_over_speed"
    )
    files.write_text(pair.run_dir / "points.csv", _points_table(pair).to_csv(index=False))
    page.write(pair, content)
    return text


def collect(pair: Pair, curves: caveats.Curves) -> dict[str, Any]:
    """Return what ``report.json`` holds: a row for each model that was evaluated, teacher first.

    Args:
        pair: its runs.
        curves: BLEU on validation by epoch, of each model.
    """
    rows = [
        {"model": model, **scores}
        for model in pair.titles
        if (scores := evaluate.scores(pair, model)) is not None
    ]
    references = evaluate.references(pair)
    translations = {row["model"]: evaluate.hypotheses(pair, row["model"]) for row in rows}
    intervals = significance.intervals(translations, references)
    baselines = [model for model in tables.BASELINES if model in translations]
    differences = compare(rows, translations, references, intervals, baselines)
    gaps = gap_recovered.recovered(rows)
    for row in rows:
        model = row["model"]
        facts = _facts(pair, model)
        row["gap_recovered"] = gaps.get(model)
        row["differences"] = differences[model]
        row["parameters"] = facts.get("parameters")
        seconds = facts.get("train_seconds")
        row["train_minutes"] = None if seconds is None else seconds / 60
        row["trained_before"] = "given" in facts
    for row in rows:
        row["export"] = translators.facts(pair, row["model"])
        row["lenpen"] = lenpen.of(pair, row["model"])
    found = operating_points.rows(tidy.over_seeds(_points_table(pair)))
    teachers = {teacher for model in pair.models for teacher in model.teachers}
    warnings = caveats.warnings(rows, curves, intervals, len(references), pair.titles)
    if (first := operating_points.warning(found, teachers, pair.titles)) is not None:
        warnings.insert(0, first)
    return {
        "pair": pair.name,
        "languages": list(pair.languages),
        "text": _facts(pair, "prepare"),
        "models": rows,
        "baselines": baselines,
        "leader": caveats.leader(rows, intervals),
        "warnings": [asdict(warning) for warning in warnings],
        "signatures": _signatures(rows),
        "decoding": decoding(pair),
        "operating_points": found,
        "measured": _how(pair) if found else None,
        "system": system(threads(pair, [row["model"] for row in rows])),
    }


def decoding(pair: Pair) -> dict[str, Any]:
    """Return the beams and the length penalty, as ``report.json`` has them."""
    chosen = "chosen on validation" if pair.decoding.lenpen is None else pair.decoding.lenpen
    return {"beam": pair.decoding.beam, "beams": list(pair.decoding.beams), "lenpen": chosen}


def _points_table(pair: Pair) -> pd.DataFrame:
    return tidy.of_points(speed.facts(pair).get("points", []))


def _how(pair: Pair) -> dict[str, Any]:
    how = {key: value for key, value in speed.facts(pair).items() if key != "points"}
    return {**how, "quantization": pair.quantization}


def compare(
    rows: list[dict[str, Any]],
    translations: significance.Translations,
    references: list[str],
    intervals: caveats.Intervals,
    baselines: list[str],
) -> dict[str, dict[str, dict[str, float]]]:
    """Return each model's difference in BLEU to each baseline, with its interval and p-value."""
    scores = {row["model"]: row["bleu"] for row in rows}
    found: dict[str, dict[str, dict[str, float]]] = {model: {} for model in scores}
    for baseline in baselines:
        p_values = significance.p_values(translations, baseline, references)
        for model, p_value in p_values.items():
            found[model][baseline] = {
                "bleu": scores[model] - scores[baseline],
                **asdict(intervals[model, baseline]),
                "p_value": p_value,
            }
    return found


def markdown(content: dict[str, Any], names: dict[str, str]) -> str:
    """Return the tables with what one needs to read them; `names`: what the models are called."""
    source, target = content["languages"]
    decoding, text = content["decoding"], content["text"]
    pairs = text.get("pairs", {})
    lines = [
        f"# {content['pair']}: {source} → {target}",
        "",
        *(f"- **Warning.** {warning['text']}" for warning in content["warnings"]),
        *([""] if content["warnings"] else []),
        *_points(content, names),
        *_markdown_tables(
            tables.scores(content, names, chrf_gap=False),
            tables.differences(content, names),
            tables.sizes(content, names),
        ),
        *(f"- {note}" for note in tables.notes(content, names)),
        f"- Text: {text.get('text')}; {pairs.get('train')} pairs to train on, "
        f"{pairs.get('valid')} for validation, {pairs.get('test')} for test (scored here).",
        f"- Beam {decoding['beam']}, length penalty {decoding['lenpen']}; the checkpoint with the "
        "best BLEU on validation.",
        "- BP: brevity penalty; length: words in the translations to words in the references.",
        f"- {tables.MINUTES}",
        *(f"- {metric}: `{value}`" for metric, value in content["signatures"].items()),
        *(f"- {key}: {value}" for key, value in content["system"].items()),
        "",
        "![BLEU on validation by epoch](validation_bleu.png)",
        "",
        *(["![BLEU over speed](quality_over_speed.png)", ""] if content["measured"] else []),
    ]
    return "\n".join(lines)


def _points(content: dict[str, Any], names: dict[str, str]) -> list[str]:
    """Return what comes first: which point to take, and what the others are."""
    rows, measured = content["operating_points"], content["measured"]
    if not rows:
        return []
    cheapest = operating_points.cheapest(rows, names)
    return [
        *_markdown_tables(point_tables.points(rows, names)),
        *([f"- {cheapest}"] if cheapest else []),
        f"- {point_tables.NOTE}",
        "",
        *_markdown_tables(
            point_tables.rates(rows, names, measured),
            point_tables.rates_on_gpu(rows, names, measured),
        ),
    ]


def _markdown_tables(*found: tables.Table) -> list[str]:
    """Return the lines of those tables that have rows, each with an empty one after it."""
    return [line for rows in found if rows for line in (tables.markdown(rows), "")]


def _signatures(rows: list[dict[str, Any]]) -> dict[str, str]:
    return rows[0]["signatures"] if rows else {}


def _facts(pair: Pair, stage: str) -> dict[str, Any]:
    record = state.read(pair.run_dir, stage)
    return dict(record.facts) if record is not None else {}


def system(threads: str = "") -> dict[str, str]:
    """Return what the numbers were made with.

    Args:
        threads: how many each training had; by default those of this process.
    """
    packages = (
        "torch",
        "ve-fairseq",
        "fairseq",
        "sacrebleu",
        "scipy",
        "sentencepiece",
        "ctranslate2",
    )
    versions = [f"{name} {version}" for name in packages if (version := _version(name))]
    cores = f"{os.cpu_count()} CPU cores, {threads or f'{torch.get_num_threads()} threads'}"
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    found = {
        "Hardware": ", ".join([_processor(), cores, *gpus]),
        "Versions": ", ".join([f"Python {platform.python_version()}", *versions]),
    }
    if commit := _commit():
        found["Commit"] = commit
    return found


def threads(pair: Pair, models: list[str]) -> str:
    """Say how many threads these trainings had; nothing where it is not known."""
    counts = sorted({count for model in models if (count := _facts(pair, model).get("threads"))})
    noun = "thread" if counts == [1] else "threads"
    return f"{' or '.join(map(str, counts))} {noun} a training" if counts else ""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def _commit() -> str:
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def curve(pair: Pair, model: str, key: str) -> dict[int, float]:
    """Return what a training that is done logged under `key` after each epoch."""
    log = pair.log(model)
    if not state.is_done(pair.run_dir, model) or not log.exists():
        return {}
    return training_log.by_epoch(training_log.read(log), key)
