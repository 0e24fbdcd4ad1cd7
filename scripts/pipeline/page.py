"""``report.html``: the whole report as one page that needs no network."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sacrebleu.metrics import CHRF

from pipeline import analyse, comparison, comparison_tables, evaluate, files, state, tables
from pipeline.analyse import Analysis
from pipeline.settings import Pair

TEMPLATE = "report.html.jinja"
SAMPLES = 5
SHOWN = ("teacher", "learner", "kd", "ka")
NO_SETTINGS = ("from ", "common.", "task.eval", "checkpoint.")


def write(pair: Pair, content: dict[str, Any]) -> Path:
    """Write the page.

    Args:
        pair: its runs.
        content: what ``report.json`` holds.

    Returns:
        The file.
    """
    names = pair.titles
    analysis = analyse.analyse(pair)
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["unbroken"] = _unbroken
    text = templates.get_template(TEMPLATE).render(
        content,
        names=names,
        best=_best(content["leader"], names),
        scores=tables.scores(content, names, chrf_gap=True),
        differences=tables.differences(content, names),
        exports=tables.exports(content, names),
        exports_on_gpu=tables.exports_on_gpu(content, names),
        sizes=tables.sizes(content, names),
        notes=tables.notes(content, names),
        curves=_image(pair.run_dir / "validation_bleu.svg"),
        quality=_image(pair.run_dir / "quality_over_speed.svg"),
        transfer=_image(pair.run_dir / "transfer_loss.svg"),
        analysis=analysis,
        agreement=_agreement(analysis) if analysis else [],
        analysis_settings=analyse.NOVEL_TOKENS,
        entropy=_image(analysis.folder / "entropy.svg") if analysis else None,
        novel=_image(analysis.folder / "novel_tokens.svg") if analysis else None,
        entropy_change=_change(analysis, "entropy_bits") if analysis else {},
        samples=samples(pair),
        shown=SHOWN,
        settings=_settings(pair, list(names)),
        compared=_compared(pair),
    )
    path = pair.run_dir / "report.html"
    files.write_text(path, text)
    return path


def samples(pair: Pair) -> dict[str, list[dict[str, Any]]]:
    """The test sentences on which KA gains and loses most against KD, by sentence-level chrF.

    Returns:
        ``wins`` and ``losses`` of KA, the largest first, each with its source, reference, the
        models' translations and the difference; empty where one of the two was not evaluated.
    """
    evaluated = [name for name in SHOWN if evaluate.scores(pair, name)]
    if not {"kd", "ka"} <= set(evaluated):
        return {"wins": [], "losses": []}
    sources = files.read_lines(pair.text_dir / f"test.{pair.source_lang}")
    references = evaluate.references(pair)
    translations = {name: evaluate.hypotheses(pair, name) for name in evaluated}
    chrf = CHRF()

    def gain(index: int) -> float:
        kd, ka = (
            chrf.sentence_score(translations[name][index], [references[index]]).score
            for name in ("kd", "ka")
        )
        return ka - kd

    gains = sorted(((gain(index), index) for index in range(len(references))), reverse=True)

    def row(difference: float, index: int) -> dict[str, Any]:
        return {
            "difference": difference,
            "source": sources[index],
            "reference": references[index],
            "translations": {name: translations[name][index] for name in evaluated},
        }

    return {
        "wins": [row(*found) for found in gains[:SAMPLES] if found[0] > 0],
        "losses": [row(*found) for found in reversed(gains[-SAMPLES:]) if found[0] < 0],
    }


def _compared(pair: Pair) -> dict[str, Any] | None:
    """What the section of a comparison shows, if there was one of the models that are here."""
    content = comparison.read(pair)
    if content is None:
        return None
    names = pair.titles
    tests = [
        {
            "title": f"{test['name']} ({test['sentences']} sentences)",
            "scores": comparison_tables.scores(content, test, names),
            "details": comparison_tables.details(content, test, names),
            "notes": comparison_tables.leader(test, names),
            "best": _best(test["leader"], names),
        }
        for test in content["tests"]
    ]
    return {
        "seeds": len(content["seeds"]),
        "warnings": content["warnings"],
        "figure": _image(pair.run_dir / comparison.NAME / "differences.svg"),
        "tests": tests,
        "trainings": comparison_tables.trainings(content, names),
        "notes": comparison_tables.notes(content, names),
    }


def _best(leader: dict[str, Any] | None, names: dict[str, str]) -> str | None:
    """What the one fine-tuning is called that is better than the second for certain."""
    return names[leader["model"]] if leader and leader["best"] else None


def _agreement(analysis: Analysis) -> tables.Table:
    return [
        {
            "model": row["run"],
            "best token is the teacher's": f"{100 * row['teacher_agreement']:.1f} %",
            "… is the reference's": f"{100 * row['accuracy']:.1f} %",
            "ECE": f"{row['ece']:.3f}",
            "KL(teacher‖learner), bits": f"{row['forward_kl_bits']:.3f}",
            "KL(learner‖teacher), bits": f"{row['backward_kl_bits']:.3f}",
        }
        for row in analysis.agreement.to_dict("records")
    ]


def _unbroken(cell: str) -> str:
    """Let a cell's line break before a bracket and after a semicolon only."""
    return re.sub(r"(?<!;) (?![\[(])", "\N{NO-BREAK SPACE}", cell)


def _image(path: Path) -> str | None:
    """An SVG as a data address: a document of its own, so that no two share names."""
    if not path.exists():
        return None
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _change(analysis: Analysis, column: str) -> dict[str, float]:
    """How much a quantity changed from the learner to each run's last epoch."""
    learners = analysis.entropy.dropna(subset="epoch").groupby("run", sort=False)[column]
    return {str(run): values.iloc[-1] - values.iloc[0] for run, values in learners}


def _settings(pair: Pair, models: list[str]) -> dict[str, dict[str, str]]:
    """Each training's settings, as far as it was done."""
    records = {model: state.read(pair.run_dir, model) for model in models}
    return {
        model: {
            key: str(value)
            for key, value in sorted(record.inputs.items())
            if not key.startswith(NO_SETTINGS)
        }
        for model, record in records.items()
        if record is not None
    }
