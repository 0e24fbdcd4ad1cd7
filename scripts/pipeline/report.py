"""Stage `report`: one table, plots and a page of all that was trained and evaluated."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from pipeline import evaluate, files, page, plots, state, training_log
from pipeline.settings import REPOSITORY, Pair

BASELINE = "kd"
RESAMPLES = 1000  # sacrebleu's own default for the paired bootstrap
NAMES = {
    "teacher": "teacher",
    "learner": "learner",
    "control": "control (NLL)",
    "kd": "KD (forward KL)",
    "ka": "KA (backward KL)",
    "mixture": "½ KD + ½ KA",
    "topk": "KA, top-8",
}


def build(pair: Pair) -> str:
    """Write ``report.md``, ``report.json``, the plots and ``report.html``.

    Returns:
        The text of ``report.md``.
    """
    rows = collect(pair)
    content = {
        "pair": pair.name,
        "languages": list(pair.languages),
        "text": _facts(pair, "prepare"),
        "models": rows,
        "signatures": _signatures(rows),
        "baseline": BASELINE,
        "decoding": dict(pair.decoding),
        "system": system(),
    }
    text = markdown(content)
    curves = {model: _curve(pair, model, "valid_bleu") for model in NAMES}
    plots.plot_validation_bleu(curves, NAMES, pair.run_dir / "validation_bleu")
    divergences = {model: _curve(pair, model, "valid_transfer_loss") for model in NAMES}
    plots.plot_transfer_loss(divergences, NAMES, pair.run_dir / "transfer_loss")
    files.write_json(pair.run_dir / "report.json", content)
    files.write_text(pair.run_dir / "report.md", text)
    page.write(pair, content, NAMES)
    return text


def collect(pair: Pair) -> list[dict[str, Any]]:
    """Return one row for each model that was evaluated, teacher first."""
    found = {model: evaluate.scores(pair, model) for model in NAMES}
    models = [model for model, scores in found.items() if scores is not None]
    p_values = compare(pair, models)
    rows = []
    for model in models:
        facts = _facts(pair, model)
        row = {"model": model, **(found[model] or {}), "p_value": p_values.get(model)}
        row["parameters"] = facts.get("parameters")
        row["train_minutes"] = facts.get("train_seconds", 0) / 60
        rows.append(row)
    return rows


def compare(pair: Pair, models: list[str]) -> dict[str, float]:
    """Return the p-value of each model's BLEU against the baseline's, by paired bootstrap."""
    others = [model for model in models if model != BASELINE]
    if BASELINE not in models or not others:
        return {}
    translations = {model: evaluate.hypotheses(pair, model) for model in (BASELINE, *others)}
    test = PairedTest(
        list(translations.items()),
        {"BLEU": BLEU(references=[evaluate.references(pair)])},
        references=None,
        test_type="bs",
        n_samples=RESAMPLES,
    )
    _, results = test()
    p_values = dict(zip(others, (float(r.p_value) for r in results["BLEU"][1:]), strict=True))
    # sacrebleu counts resamples that differ by *more* than what was observed: with the very same
    # translations that is none, and p comes out as if the two differed for certain.
    same = [model for model in others if translations[model] == translations[BASELINE]]
    return {**p_values, **dict.fromkeys(same, 1.0)}


def markdown(content: dict[str, Any]) -> str:
    """Return the table with what one needs to read it."""
    table = pd.DataFrame([_cells(row) for row in content["models"]])
    source, target = content["languages"]
    decoding, text = content["decoding"], content["text"]
    pairs = text.get("pairs", {})
    lines = [
        f"# {content['pair']}: {source} → {target}",
        "",
        table.to_markdown(
            index=False, disable_numparse=True, colalign=("left", *["right"] * (table.shape[1] - 1))
        ),
        "",
        f"- Text: {text.get('text')}; {pairs.get('train')} pairs to train on, "
        f"{pairs.get('valid')} for validation, {pairs.get('test')} for test (scored here).",
        f"- Beam {decoding['beam']}, length penalty {decoding['lenpen']}; the checkpoint with the "
        "best BLEU on validation.",
        "- BP: brevity penalty; length: words in the translations to words in the references.",
        f"- p: paired bootstrap against {NAMES[content['baseline']]}, BLEU, {RESAMPLES} resamples.",
        "- Train minutes: time in training steps, without validation and start.",
        *(f"- {metric}: `{value}`" for metric, value in content["signatures"].items()),
        *(f"- {key}: {value}" for key, value in content["system"].items()),
        "",
        "![BLEU on validation by epoch](validation_bleu.png)",
        "",
    ]
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> dict[str, str]:
    p_value, parameters = row["p_value"], row["parameters"]
    return {
        "model": NAMES[row["model"]],
        "BLEU": f"{row['bleu']:.1f}",
        "chrF": f"{row['chrf']:.1f}",
        "BP": f"{row['brevity_penalty']:.3f}",
        "length": f"{row['length_ratio']:.3f}",
        "p vs KD": "–" if p_value is None else f"{p_value:.3f}",
        "parameters": "–" if parameters is None else f"{parameters / 1e6:.2f} M",
        "train minutes": f"{row['train_minutes']:.1f}",
    }


def _signatures(rows: list[dict[str, Any]]) -> dict[str, str]:
    return rows[0]["signatures"] if rows else {}


def _facts(pair: Pair, stage: str) -> dict[str, Any]:
    record = state.read(pair.run_dir, stage)
    return dict(record.facts) if record is not None else {}


def system() -> dict[str, str]:
    """Return what the numbers were made with."""
    packages = ("torch", "ve-fairseq", "fairseq", "sacrebleu", "sentencepiece")
    versions = [f"{name} {version}" for name in packages if (version := _version(name))]
    cores = f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} threads"
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    found = {
        "Hardware": ", ".join([_processor(), cores, *gpus]),
        "Versions": ", ".join([f"Python {platform.python_version()}", *versions]),
    }
    if commit := _commit():
        found["Commit"] = commit
    return found


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


def _curve(pair: Pair, model: str, key: str) -> dict[int, float]:
    log = pair.log(model)
    if not state.is_done(pair.run_dir, model) or not log.exists():
        return {}
    return training_log.by_epoch(training_log.read(log), key)
