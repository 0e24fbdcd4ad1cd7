"""Return the tables of a report and of a comparison as text.

`content` is the content of ``report.json`` or ``compare.json``. `names` are the models' names in
tables.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.comparison import FROM_FINETUNE
from pipeline.models import students
from pipeline.results import comet, point_tables, tables
from pipeline.results.hierarchical import small_sample_factor
from pipeline.results.significance import CONFIDENCE, RESAMPLES, TRIALS
from pipeline.results.tables import NONE, Table

ONE_TRAINING = (
    "Each model is one training, so the intervals do not cover other seeds: scripts/compare.sh "
    "trains with several seeds."
)

BY_FAIRSEQ = "Scores of the translations of fairseq-generate"

Content = Mapping[str, Any]
Names = Mapping[str, str]


def sizes(content: Content) -> list[Content]:
    """Return the results of each size of the students; a list of one without further sizes."""
    return [content, *content.get("other_sizes", ())]


def scores(content: Content, test: Mapping[str, Any], names: Names) -> Table:
    """Return the rows of a test set's table: a text for each column head."""
    return _of_all_sizes(content, names, test, _scores)


def details(content: Content, test: Mapping[str, Any], names: Names) -> Table:
    """Return the rows of a test set's second table: lengths, chrF and tests, by seed."""
    return _of_all_sizes(content, names, test, _details)


def comet_scores(content: Content, test: Mapping[str, Any], names: Names) -> Table:
    """Return the rows of a test set's table of COMET; empty without COMET."""
    return _of_all_sizes(content, names, test, _comet_scores)


def trainings(content: Content, names: Names) -> Table:
    """Return the rows of the table of settings and times."""
    return _of_all_sizes(content, names, None, lambda one, _, names: _trainings(one, names))


def model_sizes(content: Content, names: Names) -> Table:
    """Return the rows of the table of sizes and length penalties, with a penalty per seed."""
    return _of_all_sizes(content, names, None, lambda one, _, names: _sizes_of_models(one, names))


def points(content: Content, test: Mapping[str, Any], names: Names) -> Table:
    """Return the rows of the table of operating points; empty if none were measured."""
    found = content.get("operating_points", {}).get(test["name"])
    return point_tables.points(found["rows"], names) if found else []


def rates(content: Content, test: Mapping[str, Any], names: Names) -> list[Table]:
    """Return the tables of further rates; empty for a comparison, which measures only speed."""
    found = content.get("operating_points", {}).get(test["name"])
    measured = content.get("measured")
    if not measured or not found:
        return []
    tables_of = (point_tables.rates, point_tables.rates_on_gpu)
    return [rows for table in tables_of if (rows := table(found["rows"], names, measured))]


def point_notes(content: Content, test: Mapping[str, Any]) -> list[str]:
    """Return the notes on operating points: the cheapest points, and each method's worth."""
    found = content.get("operating_points", {}).get(test["name"])
    if not found or not found["rows"]:
        return []
    cheapest = [found["cheapest"]] if found["cheapest"] else []
    return [*cheapest, *found["worth"], point_tables.NOTE]


def _of_all_sizes(
    content: Content,
    names: Names,
    test: Mapping[str, Any] | None,
    rows: Callable[[Content, Any, Names], Table],
) -> Table:
    """Return the rows of all sizes; a column names the size if there are several."""
    several = sizes(content)
    if len(several) == 1:
        return rows(content, test, names)
    found: Table = []
    for one in several:
        of_size = next((t for t in one["tests"] if test and t["name"] == test["name"]), None)
        shared = {names[model] for model in _shared(content, one)}
        for cells in rows(one, of_size, names):
            model = cells.pop("model")
            if model not in shared:
                found.append({"model": model, "size": one["size"] or students.OWN, **cells})
            elif one is content:
                found.append({"model": model, "size": NONE, **cells})
    heads = dict.fromkeys(head for cells in found for head in cells)
    return [{head: cells.get(head, NONE) for head in heads} for cells in found]


def _shared(content: Content, one: Content) -> set[str]:
    """Return the models without a size: they are the same for all sizes."""
    others = [other for other in sizes(content) if other is not one]
    made = [{m["model"]: m["trainings"] for m in other["models"]} for other in others]
    return {m["model"] for m in one["models"] if all(o[m["model"]] == m["trainings"] for o in made)}


def _scores(content: Content, test: Mapping[str, Any], names: Names) -> Table:
    """Return the rows of `scores` for one size."""
    has_gaps = any(row["gap_recovered"] is not None for row in test["rows"])

    def cells(row: Mapping[str, Any]) -> dict[str, str]:
        found = {
            "model": names[row["model"]],
            "BLEU": _mean(row["bleu"], 1),
            "chrF": _mean(row["chrf"], 1),
        }
        if has_gaps:
            found["gap recovered"] = tables.share(row["gap_recovered"])
        for baseline in content["baselines"]:
            difference = row["differences"].get(baseline, {}).get("bleu")
            found[tables.versus(baseline, names)] = tables.difference(difference)
        return found

    return [cells(row) for row in test["rows"]]


def _details(content: Content, test: Mapping[str, Any], names: Names) -> Table:
    """Return the rows of `details` for one size."""
    several = len(content["seeds"]) > 1
    by_seed = ", by seed" if several else ""

    def cells(row: Mapping[str, Any]) -> dict[str, str]:
        found = {"model": names[row["model"]]}
        if several:
            found["BLEU by seed"] = "; ".join(f"{value:.1f}" for value in row["bleu"]["by_seed"])
        found["length"] = _mean(row["length_ratio"], 3)
        for baseline in content["baselines"]:
            head = tables.versus(baseline, names)
            difference = row["differences"].get(baseline)
            chrf = difference and difference["chrf"]
            found[f"chrF {head}"] = tables.difference(chrf)
            found[f"p of BLEU {head}{by_seed}"] = (
                "; ".join(map(tables.p_value, difference["p_values"])) if difference else NONE
            )
        return found

    return [cells(row) for row in test["rows"]]


def _comet_scores(content: Content, test: Mapping[str, Any], names: Names) -> Table:
    """Return the rows of `comet_scores` for one size."""

    def cells(row: Mapping[str, Any]) -> dict[str, str]:
        found = {"model": names[row["model"]], "COMET": _mean(row[comet.METRIC], 1)}
        for baseline in content["baselines"]:
            difference = row["differences"].get(baseline, {}).get(comet.METRIC)
            head = f"COMET {tables.versus(baseline, names)}"
            found[head] = tables.difference(difference)
        return found

    return [cells(row) for row in test["rows"] if comet.METRIC in row]


def _trainings(content: Content, names: Names) -> Table:
    """Return the rows of `trainings` for one size."""
    models = content["models"]
    varied = any(tried["title"] for model in models for tried in model.get("tried", ()))

    def cells(model: Mapping[str, Any]) -> dict[str, str]:
        chosen = model.get("chosen")
        found = {"model": names[model["model"]]}
        if varied:
            found["settings tried"] = str(len(model["tried"])) if chosen else NONE
            found["chosen"] = (chosen["title"] or "as in the config") if chosen else NONE
        valid = model["valid_bleu"]
        found["BLEU, validation"] = _mean_of(valid, 1) if valid else NONE
        minutes = [value for value in model["train_minutes"] if value is not None]
        found["train minutes"] = _minutes(minutes, model["trained_before"])
        return found

    return [cells(model) for model in models]


def _sizes_of_models(content: Content, names: Names) -> Table:
    """Return the rows of `model_sizes` for one size of the students."""
    exported = any(model.get("export") for model in content["models"])

    def cells(model: Mapping[str, Any]) -> dict[str, str]:
        count = model["parameters"]
        found = {
            "model": names[model["model"]],
            "parameters": NONE if count is None else f"{count / 1e6:.2f} M",
        }
        if exported:
            found["MB"] = tables.number((model.get("export") or {}).get("megabytes"))
        found["length penalty"] = "; ".join(f"{value:.3g}" for value in model["lenpen"])
        return found

    return [cells(model) for model in content["models"]]


def notes(content: Content, names: Names) -> list[str]:
    """Return the notes that explain the columns."""
    count = len(content["seeds"])
    found = [_of_seeds(content)]
    found += [f"{tables.meaning(name, names)}, paired by seed." for name in content["baselines"]]
    if content["baselines"]:
        over = "over test sentences"
        if count > 1:
            over = (
                "that covers other seeds and other sentences: bootstrap over both; the spread over "
                f"{count} seeds is widened {small_sample_factor(count):.1f} times for small samples"
            )
        found.append(
            f"In brackets: {100 * CONFIDENCE:.0f} % interval {over} ({RESAMPLES} resamples). p: "
            "for each seed, over sentences, by sacrebleu's paired approximate randomization, "
            f"two-sided ({TRIALS} trials)."
        )
    if any(row["gap_recovered"] is not None for test in content["tests"] for row in test["rows"]):
        found.append(tables.GAP)
    if any(len(model.get("tried", ())) > 1 for model in content["models"]):
        found.append(
            "Tuned on validation only, with the same grid for each method. The criterion is the "
            "best epoch's BLEU (greedy), as the mean over seeds. Methods without λ or k try fewer "
            "settings."
        )
    if (model := content.get("comet")) is not None:
        found.append(f"COMET: by {comet.COMMAND} with {comet.signature(model)}.")
    found.append("Length: number of words in the translations ÷ number of words in the references.")
    found.append(tables.MINUTES)
    return [*found, *_of_exports(content, names)]


def _of_seeds(content: Content) -> str:
    """Return the note on seeds: the seeds, and the trainings that they cover."""
    seeds = content["seeds"]
    covered = (
        "of the fine-tuning only, from one learner"
        if content.get("seeds_from") == FROM_FINETUNE
        else "of the learner's own training and of the fine-tuning"
    )
    if len(seeds) > 1:
        return (
            f"Seeds {seeds[0]} to {seeds[-1]}, {covered}; all use one teacher. Mean over seeds ± "
            "standard deviation."
        )
    return ONE_TRAINING


def _of_exports(content: Content, names: Names) -> list[str]:
    """Return the notes on exported models: sizes, times, and the models without an export."""
    found = [
        f"Not exported: {names[model['model']]}: {model['export']['refused']}"
        for model in content["models"]
        if "refused" in (model.get("export") or {})
    ]
    if not (measured := content.get("measured")):
        return found
    losses = _losses(content)
    low, high = (f"{min(losses):+.1f}", f"{max(losses):+.1f}") if losses else ("+0.0", "+0.0")
    return [
        f"MB (10⁶ bytes): size of a model's folder in export/, by CTranslate2, "
        f"{measured['quantization']}.",
        f"Times: medians of {measured['repeats']} repeats over {measured['sentences']} test "
        "sentences a thread. The points take turns, and nothing else runs. Words are counted in "
        "the translations. p50 and p95: of single sentences.",
        f"The exported models differ by {low} to {high} BLEU from the same models in fairseq.",
        *found,
    ]


def _losses(content: Content) -> list[float]:
    """Return the BLEU change of each model by the export, at fairseq's beam."""
    test, beam = content["tests"][0], content["decoding"]["beam"]
    bleu = {row["model"]: row["bleu"]["mean"] for row in test["rows"]}
    return [
        round(row["bleu"] - bleu[row["model"]], 1) + 0.0  # turns -0.0 into 0.0
        for row in content["operating_points"][test["name"]]["rows"]
        if row["beam"] == beam and row["model"] in bleu
    ]


def leader(content: Content, test: Mapping[str, Any], names: Names) -> list[str]:
    """Return whether a method is the best on a test set, as a sentence for each size."""
    seeds, found = len(content["seeds"]), []
    several = sizes(content)
    for one in several:
        of_size = next(other for other in one["tests"] if other["name"] == test["name"])
        if of_size["leader"]:
            text = tables.leader(of_size["leader"], names, seeds=seeds)
            found.append(f"{one['size'] or students.OWN}: {text}" if len(several) > 1 else text)
    return found


def markdown(content: Content, names: Names, head: str, figures: Mapping[str, str | None]) -> str:
    """Return the tables and their notes as Markdown.

    Args:
        content: the collected results.
        names: the models' names in tables.
        head: the end of the first line, after the languages.
        figures: the pictures' files, by their captions; None: no picture.
    """
    source, target = content["languages"]
    lines = [f"# {content['pair']}: {source} → {target}{head}", ""]
    lines += [f"- **Warning.** {warning['text']}" for warning in content["warnings"]]
    for test in content["tests"]:
        lines += ["", f"## {test['name']} ({test['sentences']} sentences)", ""]
        lines += _tables(points(content, test, names))
        if found := point_notes(content, test):
            lines += [*(f"- {note}" for note in found), ""]
        lines += _tables(*rates(content, test, names))
        lines += [f"{BY_FAIRSEQ}:", ""]
        lines += _tables(
            scores(content, test, names),
            details(content, test, names),
            comet_scores(content, test, names),
        )
        lines += [f"- {note}" for note in leader(content, test, names)]
        lines += [f"- {metric}: `{value}`" for metric, value in test["signatures"].items()]
    decoding = content["decoding"]
    lines += [
        "",
        "## Settings, size and time",
        "",
        *_tables(trainings(content, names), model_sizes(content, names)),
    ]
    lines += [f"- {note}" for note in notes(content, names)]
    lines += [
        f"- Beam {decoding['beam']}, length penalty {decoding['lenpen']}; the checkpoint with the "
        "best BLEU on validation.",
        *(f"- {key}: {value}" for key, value in content["system"].items()),
    ]
    for shows, file in figures.items():
        lines += ["", f"![{shows}]({file})"] if file else []
    return "\n".join([*lines, ""])


def _tables(*found: Table) -> list[str]:
    """Return the lines of the tables that have rows, with an empty line after each table."""
    return [line for rows in found if rows for line in (tables.markdown(rows), "")]


def _mean(found: Mapping[str, Any], digits: int) -> str:
    text = f"{found['mean']:.{digits}f}"
    return text if found["sd"] is None else f"{text} ± {found['sd']:.{digits}f}"


def _mean_of(values: Sequence[float], digits: int) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return _mean({"mean": statistics.fmean(values), "sd": deviation}, digits)


def _minutes(values: Sequence[float], before: bool) -> str:
    if not values:
        return NONE
    text = _mean_of(values, 1)
    return f"({text})" if before else text
