"""Turn measurements into the tables of cases and bounds, and write them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from pipeline.engine import files
from pipeline.results import machine

from benchmark import sizes
from benchmark.processes import Setting, environment

# Bounds on memory apply from this many tokens a batch. Bounds on time against the plain reference
# apply from this many types.
MANY_TOKENS, MANY_TYPES = 8000, 40_000
CE, TEACHER, PROJECTION, FLOOR = "cross_entropy", "teacher", "teacher projection", "floor"
NAMES = {
    CE: "cross-entropy (CE), fairseq's",
    TEACHER: "teacher, forward",
    PROJECTION: "teacher's output projection",
    FLOOR: "floor: CE + teacher, forward",
}
_DIGITS = {"÷ floor": 3, "IQR of ÷ floor": 3, "÷ CE step": 3}
_ENVIRONMENT = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "LD_PRELOAD")
_EXPLANATION = """\
- A step is a forward and a backward pass of the student in training mode, without the optimizer.
  Times are medians over the repeats with their interquartile range (IQR). Ratios are computed
  within each repeat.
- floor: fairseq's label_smoothed_cross_entropy step and the teacher's forward pass, each measured
  in this run.
- plain: full logits, softmax and log-softmax of both models, products, sums.
- chunked: this package, the teacher runs at every step. eager, compiled, triton: chunked with this
  `--loss-kernel`.
- cached: this package with `--teacher-cache`.
- peak over CE: the most memory (of the process, or of torch on a GPU) held during the steps, minus
  that of the cross-entropy step. The next column subtracts the teacher's weights too.
- loss alone: from both models' hidden states to the gradient of the student's hidden states."""


class Measured:
    """The measurements of a setting: tables with a row for each repeat and a column for each case.

    A ratio is computed within each repeat, whose processes ran close to each other. The result is
    the median over the repeats.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        """Take the rows of :func:`benchmark.processes.run`."""
        self._rows = rows.assign(case=(rows.criterion + " " + rows.variant).str.strip())
        self.step, self.alone, self.tokens = map(self._of, ("step_ms", "loss_alone_ms", "tokens"))
        self.step[PROJECTION] = self.alone[TEACHER]
        self.step[FLOOR] = self.step[CE] + self.step[TEACHER]
        peak = self._of("peak_mb")
        self.over = peak.sub(peak[CE], axis=0).drop(columns=TEACHER)
        self.own = self.over - self._of("teacher_mb").drop(columns=TEACHER)

    def _of(self, figure: str) -> pd.DataFrame:
        return self._rows.pivot(index="repeat", columns="case", values=figure).astype(float)

    def summary(self) -> pd.DataFrame:
        """Return the figures of each case, in the order of the table; missing figures are NaN."""
        to_floor = self.step.div(self.step[FLOOR], axis=0)
        first = [CE, TEACHER, PROJECTION, FLOOR]
        table = {
            "step, ms": self.step.median(),
            "IQR": _spread(self.step),
            "÷ floor": to_floor.median(),
            "IQR of ÷ floor": _spread(to_floor),
            "÷ CE step": self.step.div(self.step[CE], axis=0).median(),
            "tokens/s": (1e3 * self.tokens / self.step).drop(columns=TEACHER).median(),
            "peak over CE, MB": self.over.median(),
            "without teacher's weights, MB": self.own.median(),
            "loss alone, ms": self.alone.drop(columns=TEACHER).median(),
        }
        cases = dict.fromkeys([*first, *self._rows.case])  # as measured in the first repeat
        return pd.DataFrame(table).loc[list(cases)]


def _spread(values: pd.DataFrame) -> pd.Series:
    """Return the interquartile range."""
    return values.quantile(0.75) - values.quantile(0.25)


def bounds(measured: Measured, setting: Setting) -> pd.DataFrame:
    """Return the bounds of all measured cases: what, bound, measured, verdict."""
    gpu = setting.device == "cuda"
    sizes_needed = "bf16 and the paper's sizes" if gpu else "the paper's sizes"
    large, step = not setting.quick, measured.step
    timed = (large and (setting.precision == "bf16" or not gpu), sizes_needed)
    many = large and setting.pair == "wmt17_de_en" and setting.tokens >= MANY_TOKENS
    held = (many, f"wmt17_de_en with {MANY_TOKENS:,} tokens or more")
    against = (large and setting.types >= MANY_TYPES, f"{MANY_TYPES:,} types or more")
    plainly = 0.6 if gpu else 0.8
    with_projection = step[CE] + step[PROJECTION]
    rows = []

    def judge(
        what: str, values: pd.Series, limit: float, rule: tuple[bool, str], unit: str = ""
    ) -> None:
        figure = values.median()
        verdict = "met" if figure <= limit else "not met"
        rows.append(
            {
                "what": what,
                "bound": f"≤ {limit:g} {unit}".strip(),
                "measured": f"{figure:.{0 if unit else 3}f} {unit}".strip(),
                "verdict": verdict if rule[0] else f"not judged: needs {rule[1]}",
            }
        )

    for name in sizes.ALL_CRITERIONS:
        chunked, cached, plain = (f"{name} {variant}" for variant in ("chunked", "cached", "plain"))
        if chunked in step:
            what = f"{name}, teacher run at every step ÷ floor"
            judge(what, step[chunked] / step[FLOOR], _limit(name, gpu), timed)
        if cached in step and (gpu or name == "topk_kl"):
            what = f"{name} with cache ÷ cross-entropy step"
            limit = 1.10 * sizes.PASSES.get(name, 1) if gpu else 1.08
            judge(what, step[cached] / step[CE], limit, timed)
        if cached in step and not gpu and name == "backward_kl":
            what = f"{name} with cache ÷ (cross-entropy step + the teacher's projection)"
            judge(what, step[cached] / with_projection, 1.08, timed)
        for case in (chunked, cached):
            if case in step:
                what = (
                    "peak memory minus the peak of the cross-entropy step and the teacher's weights"
                )
                judge(f"{case}: {what}", measured.own[case], 300, held, "MB")
        if chunked in step and plain in step:
            for part, table in (("step", step), ("loss alone", measured.alone)):
                what = f"{name}, chunked ÷ plain, {part}"
                judge(what, table[chunked] / table[plain], plainly, against)
    return pd.DataFrame(rows, columns=["what", "bound", "measured", "verdict"])


def _limit(criterion: str, gpu: bool) -> float:
    """Return the largest allowed step, in units of the floor."""
    if criterion in sizes.PASSES:
        return sizes.PASSES[criterion]
    return 1.05 if gpu or criterion in sizes.CRITERIONS else 1.10


def name_of(setting: Setting) -> str:
    """Return the base name of a setting's files."""
    precision = "" if setting.precision == "fp32" else f"-{setting.precision}"
    quick = "-quick" if setting.quick else ""
    as_is = "" if setting.tuned else "-as-is"
    return f"{setting.pair}-{setting.device}{precision}{as_is}{quick}"


def described(setting: Setting, rows: pd.DataFrame, notes: Iterable[str] = ()) -> str:
    """Return what is needed to read the numbers, as a list in Markdown."""
    variables = environment(setting.tuned, setting.threads)
    kept = [
        f"{name}={value}"
        for name, value in sorted(variables.items())
        if name in _ENVIRONMENT or name.startswith(("MALLOC_", "PYTORCH_"))
    ]
    threads = f"{setting.threads or torch.get_num_threads()} threads"
    facts = {
        "Pair": f"{setting.pair}, Table 1's sizes" + (" made tiny" if setting.quick else ""),
        "Batches": f"{setting.batches}, {setting.tokens} tokens as --max-tokens counts them "
        f"({rows.tokens.mean():.0f} target tokens and {rows.padded_tokens.mean():.0f} positions on "
        f"average), {setting.types} types",
        "Lengths": ", ".join(
            f"{key.replace('_', ' ')} {value}"
            for key, value in asdict(sizes.PAIRS[setting.pair].lengths).items()
        ),
        "Measured": f"repeats: {setting.repeats}; in each process {setting.steps} steps after "
        f"{setting.warm_up} warm-up steps; {setting.precision}",
        **machine.facts(threads),
        "Environment": ", ".join(kept) or "no variables for threads and memory are set",
    }
    return "".join(f"- {line}\n" for line in [*(f"{k}: {v}" for k, v in facts.items()), *notes])


def markdown(setting: Setting, rows: pd.DataFrame, notes: Iterable[str] = ()) -> str:
    """Return the table of cases and the table of bounds, with the notes that explain them."""
    measured = Measured(rows)
    cases = measured.summary().rename(index=NAMES)
    for column in cases:
        digits = _DIGITS.get(column, 0 if column == "tokens/s" or "MB" in column else 1)
        cases[column] = [f"{value:.{digits}f}" for value in cases[column]]
    text = [
        f"# Speed: {setting.pair} on {setting.device}, {setting.precision}",
        cases.replace("nan", "–").to_markdown(disable_numparse=True),
        _EXPLANATION,
        bounds(measured, setting).to_markdown(index=False, disable_numparse=True),
        described(setting, rows, notes),
    ]
    return "\n\n".join(text)


def write(folder: Path, name: str, text: str, rows: pd.DataFrame) -> None:
    """Write NAME.md, and NAME.csv with every single measurement."""
    files.write_text(folder / f"{name}.md", text)
    files.write_text(folder / f"{name}.csv", rows.to_csv(index=False))
