"""Let fairseq validate by BLEU when a model generates no tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from fairseq.logging import metrics
from fairseq.tasks.translation import TranslationTask
from sacrebleu.metrics import BLEU


def bleu_so_far(meters: Mapping[str, Any]) -> float:
    """Return validation BLEU from the sums that fairseq's task logs; 0 without such sums."""
    if "_bleu_counts" not in meters:
        return 0.0
    bleu = BLEU.compute_bleu(
        correct=meters["_bleu_counts"].sum,
        total=meters["_bleu_totals"].sum,
        sys_len=int(meters["_bleu_sys_len"].sum),
        ref_len=int(meters["_bleu_ref_len"].sum),
        smooth_method="exp",
    )
    return round(bleu.score, 2)


def _with_bleu_zero(reduce_metrics: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(reduce_metrics)
    def with_bleu(self: TranslationTask, logging_outputs: Any, criterion: Any) -> None:
        if any("_bleu_sys_len" in log for log in logging_outputs):
            # Called before fairseq's function, which does not replace an existing meter.
            metrics.log_derived("bleu", bleu_so_far)
        reduce_metrics(self, logging_outputs, criterion)

    with_bleu.knows_silence = True
    return with_bleu


def let_silent_models_be_validated() -> None:
    """Give BLEU 0 to a model that generates only empty translations.

    A model may do so in its first epoch. fairseq logs no BLEU if no token was generated. If
    checkpoints are chosen by BLEU, fairseq then stops with KeyError: 'bleu'.
    """
    if not hasattr(TranslationTask.reduce_metrics, "knows_silence"):
        TranslationTask.reduce_metrics = _with_bleu_zero(TranslationTask.reduce_metrics)
