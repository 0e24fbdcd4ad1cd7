"""Stage `speed`: how good and how fast the exported models are, one after the other in one run."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline import commands, deployment, evaluate, files, measuring, parallel, state
from pipeline.progress import bar, say
from pipeline.settings import REPOSITORY, Pair
from pipeline.stage import Stage

NAME = "speed"
SENTENCES, SINGLE, REPEATS = 100, 50, 3
"""How many test sentences are timed for each thread, how many one by one, and how often."""

ONE, ALL, GPU = "one_thread", "all_threads", "gpu"
"""What each model is measured on."""

_LONGEST_EXAMPLE = 60  # characters


def stage(after: tuple[str, ...]) -> Stage:
    """Return the stage; it runs when the stages `after` are done, and nothing beside it."""
    return Stage(NAME, run, inputs, after=after, cheap=True, alone=True)


def inputs(pair: Pair) -> dict[str, Any]:
    """Return what the numbers depend on, as far as it can be named."""
    exports = {model: deployment.name(model) for model in deployment.exported(pair)}
    return {
        "beam": pair.decoding["beam"],
        "amounts": [SENTENCES, SINGLE, REPEATS],
        "settings": _settings(pair),
        **{f"from {name}": state.fingerprint(pair.run_dir, name) for name in exports.values()},
    }


def run(pair: Pair) -> dict[str, Any]:
    """Translate the test set with each exported model, score that, and take the times.

    Raises:
        PipelineError: a model's own translator failed.
    """
    models = deployment.exported(pair)
    if not models:
        return {}
    job = measuring.Job(
        folders={model: str(deployment.folder(pair, model)) for model in models},
        source=str(pair.source),
        targets={model: str(_hypothesis_file(pair, model)) for model in models},
        beam=pair.decoding["beam"],
        sentences=SENTENCES,
        single=SINGLE,
        repeats=REPEATS,
        settings=_settings(pair),
    )
    path = pair.evaluate_dir / "speed.json"
    files.write_json(path, asdict(job))
    results = _measure(job, path, pair)
    target = evaluate.references(pair)
    found = {}
    for model in models:
        scores = evaluate.score(files.read_lines(_hypothesis_file(pair, model)), target)
        found[model] = {**results[model], "bleu": scores["bleu"], "chrf": scores["chrf"]}
    timed = len(measuring.spread(files.read_lines(pair.source), SENTENCES))
    return {"models": found, "sentences": timed, "repeats": REPEATS, "settings": job.settings}


def facts(pair: Pair) -> dict[str, Any]:
    """Return what `run` found of models that are still as they were measured."""
    record = state.read(pair.run_dir, NAME)
    if record is None or not record.done or not record.facts:
        return {}
    current = {
        model: found
        for model, found in record.facts["models"].items()
        if record.inputs.get(f"from {deployment.name(model)}")
        == state.fingerprint(pair.run_dir, deployment.name(model))
    }
    return {**record.facts, "models": current}


def command_line(pair: Pair) -> str | None:
    """Return what to type to translate a sentence with the best exported student.

    None where there is none. Best is who has the highest BLEU as exported.
    """
    teachers = {teacher for model in pair.models for teacher in model.teachers}
    measured = facts(pair).get("models", {})
    students = {name: found["bleu"] for name, found in measured.items() if name not in teachers}
    if not students:
        return None
    best = max(students, key=lambda name: students[name])
    program = deployment.folder(pair, best) / "translate.py"
    words = [shlex.quote(_shown(path)) for path in (Path(sys.executable), program)]
    return f"echo {shlex.quote(_example(pair))} | {' '.join(words)}"


def _settings(pair: Pair) -> dict[str, dict[str, Any]]:
    cores = parallel.cores()
    found = {ALL: {"threads": cores}} if cores > 1 else {}
    found[ONE] = {"threads": 1}
    if pair.slot.visible:
        found[GPU] = {"threads": 1, "device": "cuda"}
    return found


def _measure(job: measuring.Job, path: Path, pair: Pair) -> dict[str, Any]:
    results: dict[str, Any] = {}
    with bar(title="measuring exported models", total=job.steps) as progress:

        def on_line(line: str) -> None:
            if not line.startswith("{"):
                return
            record = json.loads(line)
            results.update(record.get("results", {}))
            if "step" in record:
                progress.set_postfix_str(record["step"], refresh=False)
                progress.update()

        command = [*commands.python_module("pipeline.measuring"), str(path)]
        # From the folder of the package, as a script's own folder may not be on Python's path.
        folder = REPOSITORY / "scripts"
        commands.run(command, pair.log(NAME), on_line, folder=folder, slot=pair.slot)
    for setting in job.settings:
        first = next(iter(results.values()))[setting]
        if "error" in first:
            say(f"{NAME}: not measured on {setting}: {first['error']}")
    return results


def _hypothesis_file(pair: Pair, model: str) -> Path:
    return pair.evaluate_dir / f"{deployment.name(model)}.{pair.target_lang}"


def _example(pair: Pair) -> str:
    """Return the first short sentence of the test set that begins with a letter."""
    sentences = [line for line in files.read_lines(pair.source) if line.strip()]
    short = (line for line in sentences if len(line) <= _LONGEST_EXAMPLE and line[0].isalpha())
    return next(short, sentences[0])


def _shown(path: Path) -> str:
    """Return a path as one would type it from here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
