"""Stage `speed`: measure quality and speed of the exported models with each beam, in one run."""

from __future__ import annotations

import itertools
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.engine import commands, files, parallel, state
from pipeline.engine.devices import Slot
from pipeline.engine.progress import bar, say
from pipeline.engine.stage import Stage
from pipeline.models import lenpen, translators
from pipeline.models.settings import REPOSITORY, Pair
from pipeline.results import evaluate, measuring
from pipeline.results.evaluation_sets import MAIN, EvaluationSet

NAME = "speed"
SENTENCES, SINGLE, REPEATS = 200, 50, 5
"""The numbers of test sentences timed per thread and one by one, and the number of repeats."""

ONE, ALL, GPU = "one_thread", "all_threads", "gpu"
"""The settings that each model is measured on."""

_LONGEST_EXAMPLE = 60  # characters


@dataclass(frozen=True)
class Measured:
    """The description of a measurement.

    Attributes:
        pair: the pair of the models.
        name: the name of the stage.
        models: the exported models, by the names of their trainings.
        timed: the models to time.
        tests: the test sets to translate and score; the first one is also timed.
    """

    pair: Pair
    name: str
    models: tuple[str, ...]
    timed: tuple[str, ...]
    tests: tuple[EvaluationSet, ...]

    @property
    def places(self) -> Iterator[tuple[str, int, EvaluationSet]]:
        """Yield each model with each beam on each test set."""
        return itertools.product(self.models, self.pair.decoding.beams, self.tests)


def stage(
    pair: Pair,
    after: tuple[str, ...],
    *,
    name: str = NAME,
    models: Callable[[], Iterable[str]] | None = None,
    timed: Callable[[], Iterable[str]] | None = None,
    tests: Sequence[EvaluationSet] = (MAIN,),
) -> Stage:
    """Return the stage, which runs alone, after the stages `after`.

    Args:
        pair: the language pair.
        after: stages that run before, if they are requested.
        name: the name of the stage.
        models: returns the exported models to measure, by the names of their trainings; by default
            those of the pair.
        timed: returns the models to time; by default all.
        tests: the test sets to translate and score; the first one is also timed.
    """

    def measured() -> Measured:
        found = tuple(models() if models else translators.exported(pair))
        return Measured(pair, name, found, tuple(timed()) if timed else found, tuple(tests))

    return Stage(
        name,
        lambda slot: run(measured(), slot),
        lambda slot: inputs(measured(), slot),
        after=after,
        cheap=True,
        alone=True,
    )


def inputs(measured: Measured, slot: Slot) -> dict[str, Any]:
    """Return everything nameable that the numbers depend on."""
    pair = measured.pair
    sets = [which.made_by for which in measured.tests if which != MAIN]
    upstream = [*map(translators.name, measured.models), *sets]
    return {
        "beams": list(pair.decoding.beams),
        "amounts": [SENTENCES, SINGLE, REPEATS],
        "settings": _settings(slot),
        "timed": list(measured.timed),
        "tests": [which.title(pair) for which in measured.tests],
        **{f"from {name}": state.fingerprint(pair.files.run_dir, name) for name in upstream},
    }


def run(measured: Measured, slot: Slot) -> dict[str, Any]:
    """Translate and score the test sets with each exported model and beam, and take the times.

    Raises:
        PipelineError: a model's translator failed.
    """
    pair, models = measured.pair, measured.models
    if not models:
        return {}
    first = measured.tests[0].source(pair)
    job = measuring.Job(
        folders={model: str(translators.folder(pair, model)) for model in models},
        timed=measured.timed,
        beams=pair.decoding.beams,
        texts=[_text(pair, *place) for place in measured.places],
        source=str(first),
        sentences=SENTENCES,
        single=SINGLE,
        repeats=REPEATS,
        settings=_settings(slot),
    )
    path = pair.files.evaluate_dir / f"{measured.name.replace('/', '-')}.json"
    files.write_json(path, asdict(job))
    points = _measure(job, path, measured, slot)
    for point in points:
        point["lenpen"] = lenpen.of(pair, point["model"])
        point["scores"] = {
            which.title(pair): _scores(pair, point["model"], point["beam"], which)
            for which in measured.tests
        }
    timed = len(measuring.spread(files.read_lines(first), SENTENCES))
    return {"points": points, "sentences": timed, "repeats": REPEATS, "settings": job.settings}


def facts(pair: Pair, name: str = NAME) -> dict[str, Any]:
    """Return the results of `run` for the models that have not changed since.

    A record of an older format has one beam, which all its points get. Its points have no length
    penalties and no length ratios.
    """
    record = state.read(pair.files.run_dir, name)
    if record is None or not record.done or not record.facts:
        return {}
    found = dict(record.facts)
    if "models" in found:
        found["points"] = _of_one_beam(
            pair, record.inputs.get("beam", pair.decoding.beam), found.pop("models")
        )
    current = [point for point in found["points"] if _is_current(pair, point["model"], record)]
    return {**found, "points": current}


def _of_one_beam(pair: Pair, beam: int, models: dict[str, Any]) -> list[dict[str, Any]]:
    def point(model: str, known: dict[str, Any]) -> dict[str, Any]:
        rates = {key: value for key, value in known.items() if key not in ("bleu", "chrf")}
        scores = {MAIN.title(pair): {key: known[key] for key in ("bleu", "chrf")}}
        return {"model": model, "beam": beam, **rates, "scores": scores}

    return [point(model, known) for model, known in models.items()]


def _is_current(pair: Pair, model: str, record: state.Record) -> bool:
    stage = translators.name(model)
    return record.inputs.get(f"from {stage}") == state.fingerprint(pair.files.run_dir, stage)


def command_line(pair: Pair) -> str | None:
    """Return the command that translates a sentence with the best exported student.

    The student is the best operating point that no point dominates. None without a student.
    """
    # Imported here: pandas takes half a second, and most stages do not need it.
    from pipeline.results import operating_points, tidy

    teachers = {teacher for model in pair.models for teacher in model.teachers}
    points = tidy.of_points(facts(pair).get("points", []))
    best = operating_points.recommended(operating_points.rows(tidy.over_seeds(points)), teachers)
    if best is None:
        return None
    program = translators.folder(pair, best["model"]) / "translate.py"
    words = [shlex.quote(_shown(path)) for path in (Path(sys.executable), program)]
    if best["beam"] != pair.decoding.beam:
        words += ["--beam", str(best["beam"])]
    return f"echo {shlex.quote(_example(pair))} | {' '.join(words)}"


def _settings(slot: Slot) -> dict[str, dict[str, Any]]:
    cores = parallel.cores()
    found = {ALL: {"threads": cores}} if cores > 1 else {}
    found[ONE] = {"threads": 1}
    if slot.visible:
        found[GPU] = {"threads": 1, "device": "cuda"}
    return found


def _measure(
    job: measuring.Job, path: Path, measured: Measured, slot: Slot
) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    pair = measured.pair
    with bar(title="measuring exported models", total=job.steps) as progress:

        def on_line(line: str) -> None:
            if not line.startswith("{"):
                return
            record = json.loads(line)
            results.extend(record.get("results", []))
            if "step" in record:
                progress.set_postfix_str(record["step"], refresh=False)
                progress.update()

        command = [*commands.python_module("pipeline.results.measuring"), str(path)]
        # Run from the package's folder: a script's own folder may not be on Python's path.
        folder = REPOSITORY / "scripts"
        commands.run(command, pair.files.log(measured.name), on_line, folder=folder, slot=slot)
    for setting in job.settings:
        errors = {point[setting]["error"] for point in results if "error" in point.get(setting, {})}
        for error in errors:
            say(f"{measured.name}: not measured on {setting}: {error}")
    return results


def _text(pair: Pair, model: str, beam: int, which: EvaluationSet) -> dict[str, Any]:
    target = hypotheses(pair, model, beam, which)
    target.parent.mkdir(parents=True, exist_ok=True)
    source = which.source(pair)
    return {"model": model, "beam": beam, "source": str(source), "target": str(target)}


def hypotheses(pair: Pair, model: str, beam: int, which: EvaluationSet = MAIN) -> Path:
    """Return the file with an exported model's translations of a test set."""
    with_beam = "" if beam == pair.decoding.beam else f".beam{beam}"
    return which.hypotheses(pair, f"{translators.name(model)}{with_beam}")


def _scores(pair: Pair, model: str, beam: int, which: EvaluationSet) -> dict[str, float]:
    translations = files.read_lines(hypotheses(pair, model, beam, which))
    found = evaluate.score(translations, evaluate.references(pair, which))
    return {metric: found[metric] for metric in ("bleu", "chrf", "length_ratio")}


def _example(pair: Pair) -> str:
    """Return the first short test sentence that begins with a letter."""
    sentences = [line for line in files.read_lines(pair.source) if line.strip()]
    short = (line for line in sentences if len(line) <= _LONGEST_EXAMPLE and line[0].isalpha())
    return next(short, sentences[0])


def _shown(path: Path) -> str:
    """Return a path as a user would type it in the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
