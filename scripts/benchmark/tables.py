"""Turn measurements into the table of cases and the table of bounds."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from benchmark.runner import CROSS_ENTROPY, PRODUCTS, TEACHER, Case
from benchmark.sizes import ALL_CRITERIONS, ALL_VARIANTS, CRITERIONS, PASSES
from benchmark.workspace import Setting

# Bounds on memory apply from this many tokens a batch. Bounds on time against the plain reference
# apply from this many types.
MANY_TOKENS, MANY_TYPES = 8000, 40_000
# On a GPU, the largest share of a peer's time that the loss alone may take.
_OF_PEERS = {"trl": 0.5, "liger": 0.8}
FLOOR = Case("floor")
PROJECTION = Case("teacher", "projection")


class Measured:
    """The measurements of a setting, by case.

    A ratio is computed within each repeat, whose processes ran close to each other. The result is
    the median over the repeats.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        """Take the rows of :func:`benchmark.runner.run`."""
        self._rows = rows.set_index(["criterion", "variant", "repeat"]).sort_index()
        found = rows[["criterion", "variant"]].drop_duplicates().itertuples(index=False)
        self.cases = [Case(*names) for names in found]

    def __contains__(self, case: Case) -> bool:
        return case in self.cases

    def of(self, case: Case, column: str) -> pd.Series:
        """Return a figure of each repeat."""
        return self._rows.loc[(case.criterion, case.variant), column].astype(float)

    def step(self, case: Case) -> pd.Series:
        """Return the milliseconds of each repeat; the floor is the sum of two cases."""
        if case == FLOOR:
            return self.step(CROSS_ENTROPY) + self.step(TEACHER)
        if case == PROJECTION:
            return self.of(TEACHER, "loss_alone_ms")
        return self.of(case, "step_ms")

    def over_cross_entropy(self, case: Case) -> pd.Series:
        """Return the megabytes of peak memory above the cross-entropy step, teacher included."""
        return self.of(case, "peak_mb") - self.of(CROSS_ENTROPY, "peak_mb")


def spread(values: pd.Series) -> float:
    """Return the interquartile range."""
    return float(values.quantile(0.75) - values.quantile(0.25))


def summary(measured: Measured) -> list[dict[str, Any]]:
    """Return a row for each case, in the order of the table; missing figures are None."""
    floor = [CROSS_ENTROPY, TEACHER, PROJECTION, FLOOR]
    floor += [PRODUCTS] if PRODUCTS in measured else []
    others = sorted(
        (case for case in measured.cases if case not in floor),
        key=lambda case: (
            ALL_CRITERIONS.index(case.criterion),
            ALL_VARIANTS.index(case.variant) if case.variant else -1,
        ),
    )
    return [_summary_row(measured, case) for case in [*floor, *others]]


def _summary_row(measured: Measured, case: Case) -> dict[str, Any]:
    step = measured.step(case)
    row: dict[str, Any] = {
        **asdict(case),
        "step_ms": step.median(),
        "step_ms_iqr": spread(step),
        "to_floor": (step / measured.step(FLOOR)).median(),
        "to_floor_iqr": spread(step / measured.step(FLOOR)),
        "to_cross_entropy": (step / measured.step(CROSS_ENTROPY)).median(),
    }
    if case not in measured or case == TEACHER:
        return row
    over = measured.over_cross_entropy(case)
    return row | {
        "tokens_per_second": 1e3 * (measured.of(case, "tokens") / step).median(),
        "loss_alone_ms": _or_none(measured.of(case, "loss_alone_ms").median()),
        "reading_ms": measured.of(case, "reading_ms").median(),
        "peak_mb": measured.of(case, "peak_mb").median(),
        "over_cross_entropy_mb": over.median(),
        "over_cross_entropy_and_teacher_mb": (over - measured.of(case, "teacher_mb")).median(),
    }


def _or_none(value: float) -> float | None:
    return None if pd.isna(value) else value


@dataclass(frozen=True)
class Bound:
    """A target for a figure.

    Attributes:
        what: the figure in words.
        limit: the largest allowed figure.
        measured: the figure; a ratio, or megabytes.
        unit: "" for a ratio.
        applies: whether the measured sizes are the sizes of the bound.
        condition: the sizes of the bound, in words.
        without_loss: the same figure for both models without a loss; None if not meaningful.
        case: the case of the figure.
        part: the timed part, "step" or "loss_alone"; "" for memory.
    """

    what: str
    limit: float
    measured: float
    unit: str = ""
    applies: bool = True
    condition: str = ""
    without_loss: float | None = None
    case: Case | None = None
    part: str = "step"

    @property
    def missed(self) -> bool:
        """Whether the bound applies, and the figure is larger than the limit."""
        return self.applies and not self.measured <= self.limit

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        if not self.applies:
            return f"not judged: needs {self.condition}"
        if not self.missed:
            return "met"
        if self.without_loss is None:
            return "not met"
        return f"not met; without a loss: {self.without_loss:.3f}"


def bounds(measured: Measured, setting: Setting) -> list[Bound]:
    """Return the bounds that the benchmark checks, for all measured cases."""
    return [
        *_on_time(measured, setting),
        *_on_memory(measured, setting),
        *_against_plain(measured, setting),
    ]


def _on_time(measured: Measured, setting: Setting) -> Iterator[Bound]:
    if setting.device == "cuda":
        yield from _on_a_gpu(measured, setting)
        return
    applies, condition = not setting.quick, "the paper's sizes"
    for case in _with_variant(measured, "chunked"):
        ratio = (measured.step(case) / measured.step(FLOOR)).median()
        yield Bound(
            f"{case.criterion}, teacher run at every step ÷ floor",
            _limit(case.criterion),
            ratio,
            "",
            applies,
            condition,
            case=case,
        )
    cross_entropy = measured.step(CROSS_ENTROPY)
    if (case := Case("topk_kl", "cached")) in measured:
        ratio = (measured.step(case) / cross_entropy).median()
        what = "topk_kl with cache ÷ cross-entropy step"
        yield Bound(what, 1.08, ratio, "", applies, condition, case=case)
    if (case := Case("backward_kl", "cached")) in measured:
        least = cross_entropy + measured.step(PROJECTION)
        ratio = (measured.step(case) / least).median()
        what = "backward_kl with cache ÷ (cross-entropy step + the teacher's projection)"
        yield Bound(what, 1.08, ratio, "", applies, condition, case=case)


def _on_a_gpu(measured: Measured, setting: Setting) -> Iterator[Bound]:
    """Yield the bounds in bf16: steps against the floor, the loss alone against peers."""
    rule = {
        "applies": setting.precision == "bf16" and not setting.quick,
        "condition": "bf16 and the paper's sizes",
    }
    for variant, other, limit, of_what in (
        ("chunked", FLOOR, 1.05, "teacher run at every step ÷ floor"),
        ("cached", CROSS_ENTROPY, 1.10, "with cache ÷ cross-entropy step"),
    ):
        for case in _with_variant(measured, variant):
            passes = PASSES.get(case.criterion, 1)
            ratio = (measured.step(case) / measured.step(other)).median()
            what = f"{case.criterion}, {of_what}"
            yield Bound(what, passes * limit, ratio, **rule, case=case)
    for case in _with_variant(measured, "chunked"):
        for peer, limit in _OF_PEERS.items():
            if (theirs := Case(case.criterion, peer)) in measured:
                alone = (measured.of(name, "loss_alone_ms") for name in (case, theirs))
                ratio = operator.truediv(*alone).median()
                what = f"{case.criterion}, chunked ÷ {peer}, loss alone"
                yield Bound(what, limit, ratio, **rule, case=case, part="loss_alone")


def _limit(criterion: str) -> float:
    """Return the largest allowed step, in units of the floor."""
    if criterion in PASSES:
        return PASSES[criterion]
    return 1.05 if criterion in CRITERIONS else 1.10


def _on_memory(measured: Measured, setting: Setting) -> Iterator[Bound]:
    applies = setting.pair == "wmt17_de_en" and setting.tokens >= MANY_TOKENS and not setting.quick
    for variant in ("chunked", "cached"):
        for case in _with_variant(measured, variant):
            over = measured.over_cross_entropy(case) - measured.of(case, "teacher_mb")
            yield Bound(
                f"{case.criterion} {variant}: peak memory minus the peak of the cross-entropy step "
                "and the teacher's weights",
                300.0,
                over.median(),
                "MB",
                applies,
                f"wmt17_de_en with {MANY_TOKENS:,} tokens or more",
                case=case,
                part="",
            )


def _against_plain(measured: Measured, setting: Setting) -> Iterator[Bound]:
    limit = 0.6 if setting.device == "cuda" else 0.8
    applies, condition = (
        setting.types >= MANY_TYPES and not setting.quick,
        f"{MANY_TYPES:,} types or more",
    )
    for part, of_what in (("step", "step"), ("loss_alone", "loss alone")):
        column = f"{part}_ms"
        for chunked in _with_variant(measured, "chunked"):
            if (plain := Case(chunked.criterion, "plain")) in measured:
                of_plain = measured.of(plain, column)
                ratio = (measured.of(chunked, column) / of_plain).median()
                without = None
                if PRODUCTS in measured:
                    without = (measured.of(PRODUCTS, column) / of_plain).median()
                what = f"{chunked.criterion}, chunked ÷ plain, {of_what}"
                yield Bound(
                    what, limit, ratio, "", applies, condition, without, case=chunked, part=part
                )


def _with_variant(measured: Measured, variant: str) -> list[Case]:
    return [Case(name, variant) for name in ALL_CRITERIONS if Case(name, variant) in measured]
