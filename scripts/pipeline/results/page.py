"""Write ``report.html``: the whole report as one page that needs no network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline import comparison
from pipeline.engine import files, state
from pipeline.models.settings import Pair
from pipeline.results import (
    analyse,
    data_addresses,
    gap_recovered,
    interval_bars,
    score_tables,
    sentences,
    tables,
)
from pipeline.results.analyse import Analysis
from pipeline.results.data_addresses import Figure

FOLDER = Path(__file__).parent
TEMPLATE, STYLE, SCRIPT = "report.html.jinja", "report.css", "report.js"
NO_SETTINGS = ("from ", "common.", "task.eval", "checkpoint.")


def write(pair: Pair, content: dict[str, Any]) -> Path:
    """Write the page.

    Args:
        pair: the pair of the runs.
        content: the content of ``report.json``.

    Returns:
        The path of the page.
    """
    names = pair.titles
    analysis = analyse.analyse(pair)
    translations = sentences.collect(pair)
    templates = _templates(apart={names[name] for name in gap_recovered.BASES[:1] if name in names})
    text = templates.get_template(TEMPLATE).render(
        content,
        names=names,
        by_fairseq=score_tables.BY_FAIRSEQ,
        found=section(
            content,
            names,
            quality=data_addresses.figure(pair.files.run_dir / "quality_over_speed"),
        ),
        curves=data_addresses.figure(pair.files.run_dir / "validation_bleu"),
        transfer=data_addresses.figure(pair.files.run_dir / "transfer_loss"),
        analysis=analysis,
        agreement=_agreement(analysis) if analysis else [],
        analysis_settings=analyse.NOVEL_TOKENS,
        entropy=data_addresses.figure(analysis.folder / "entropy") if analysis else None,
        novel=data_addresses.figure(analysis.folder / "novel_tokens") if analysis else None,
        entropy_change=_change(analysis, "entropy_bits") if analysis else {},
        translations=translations,
        extremes=sentences.extremes(translations) if translations else None,
        settings=_settings(pair, list(names)),
        compared=comparison_of(pair),
        style=_file(STYLE),
        script=_file(SCRIPT),
    )
    path = pair.files.run_dir / "report.html"
    files.write_text(path, text)
    return path


def _templates(apart: set[str]) -> Environment:
    """Return the template environment; for `apart` see `interval_bars.ends`."""
    templates = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Compact JSON, as the page holds thousands of sentences.
    templates.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    templates.filters["unbroken"] = unbroken
    templates.filters["ends"] = partial(interval_bars.ends, apart=apart)
    templates.filters["bar"] = interval_bars.bar
    templates.tests["difference"] = lambda cell: isinstance(cell, tables.Difference)
    return templates


def _file(name: str) -> Markup:
    """Return the text of a file beside the template, unescaped."""
    return Markup((FOLDER / name).read_text(encoding="utf-8"))


def comparison_of(pair: Pair) -> dict[str, Any] | None:
    """Return the section of a comparison; None without a comparison of the current models."""
    content = comparison.read(pair)
    if content is None:
        return None
    folder = pair.files.run_dir / comparison.NAME
    return section(
        content,
        pair.titles,
        figure=data_addresses.figure(folder / "differences", folder / f"{comparison.NAME}.csv"),
        quality=data_addresses.figure(folder / "quality_over_speed"),
    )


def section(
    content: Mapping[str, Any],
    names: Mapping[str, str],
    *,
    quality: Figure | None,
    figure: Figure | None = None,
) -> dict[str, Any]:
    """Return the contents of a section of results.

    Args:
        content: the content of ``report.json`` or ``compare.json``.
        names: the models' names in tables.
        quality: the picture of quality over speed.
        figure: the picture of the differences to the first baseline.
    """
    several = len(score_tables.sizes(content)) > 1  # each size may have a best model
    tests = [
        {
            "title": f"{test['name']} ({test['sentences']} sentences)",
            "points": score_tables.points(content, test, names),
            "point_notes": score_tables.point_notes(content, test),
            "rates": score_tables.rates(content, test, names),
            "scores": score_tables.scores(content, test, names),
            "details": score_tables.details(content, test, names),
            "comet": score_tables.comet_scores(content, test, names),
            "notes": score_tables.leader(content, test, names),
            "signatures": test["signatures"],
            "best": None if several else _best(test["leader"], names),
        }
        for test in content["tests"]
    ]
    return {
        "baseline": names[content["baselines"][0]] if content["baselines"] else None,
        "seeds": len(content["seeds"]),
        "warnings": content["warnings"],
        "figure": figure,
        "quality": quality,
        "tests": tests,
        "trainings": score_tables.trainings(content, names),
        "sizes": score_tables.model_sizes(content, names),
        "notes": score_tables.notes(content, names),
    }


def _best(leader: Mapping[str, Any] | None, names: Mapping[str, str]) -> str | None:
    """Return the title of the best fine-tuning if its interval to the second excludes zero."""
    return names[leader["model"]] if leader and leader["best"] else None


def _agreement(analysis: Analysis) -> tables.Table:
    return [
        {
            "model": row["run"],
            "best token is the teacher's": f"{100 * row['teacher_agreement']:.1f} %",
            "best token is the reference's": f"{100 * row['accuracy']:.1f} %",
            "ECE": f"{row['ece']:.3f}",
            "KL(teacher‖learner), bits": f"{row['forward_kl_bits']:.3f}",
            "KL(learner‖teacher), bits": f"{row['backward_kl_bits']:.3f}",
        }
        for row in analysis.agreement.to_dict("records")
    ]


def unbroken(cell: str) -> str:
    """Allow line breaks in a numeric cell only before a bracket and after a semicolon."""
    if isinstance(cell, tables.Words):
        return cell
    return re.sub(r"(?<!;) (?![\[(])", "\N{NO-BREAK SPACE}", cell)


def _change(analysis: Analysis, column: str) -> dict[str, float]:
    """Return how much a quantity changed from the student to each run's last epoch."""
    learners = analysis.entropy.dropna(subset="epoch").groupby("run", sort=False)[column]
    return {str(run): values.iloc[-1] - values.iloc[0] for run, values in learners}


def _settings(pair: Pair, models: list[str]) -> dict[str, dict[str, str]]:
    """Return the settings of each finished training."""
    records = {model: state.read(pair.files.run_dir, model) for model in models}
    return {
        model: {
            key: str(value)
            for key, value in sorted(record.inputs.items())
            if not key.startswith(NO_SETTINGS)
        }
        for model, record in records.items()
        if record is not None
    }
