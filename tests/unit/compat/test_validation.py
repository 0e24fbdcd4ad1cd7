"""Validation by BLEU of models that translate everything by nothing."""

import pytest
from fairseq.logging import metrics
from sacrebleu.metrics import BLEU

from tests.support import make_task

pytestmark = pytest.mark.older


def bleu_logs(lengths, counts):
    """What validating a batch logs: translations of some length, n-grams counted and correct."""
    sys_len, ref_len = lengths
    log = {"_bleu_sys_len": sys_len, "_bleu_ref_len": ref_len}
    for n, (count, total) in enumerate(counts):
        log |= {f"_bleu_counts_{n}": count, f"_bleu_totals_{n}": total}
    return log | {"loss": 1.0, "nll_loss": 1.0, "ntokens": 9, "sample_size": 9, "nsentences": 1}


SILENT = bleu_logs((0, 9), [(0, 0)] * 4)
SPOKEN = bleu_logs((10, 9), [(8, 10), (6, 9), (4, 8), (2, 7)])


@pytest.mark.parametrize("batches", [[SILENT], [SILENT, SPOKEN], [SPOKEN, SILENT], [SPOKEN]])
def test_silent_batches_count_in_validation_bleu(binarized, batches):
    task, cfg = make_task(
        binarized, "--eval-bleu", "--criterion", "cross_entropy", "--task", "translation"
    )
    criterion = task.build_criterion(cfg.criterion)
    with metrics.aggregate(new_root=True) as aggregate:
        for batch in batches:
            task.reduce_metrics([batch], criterion)
    expected = 0.0
    if SPOKEN in batches:  # fairseq leaves the references of silent batches out
        expected = BLEU.compute_bleu([8, 6, 4, 2], [10, 9, 8, 7], 10, 9).score
    assert aggregate.get_smoothed_values()["bleu"] == pytest.approx(expected, abs=0.01)


def test_training_logs_no_bleu(binarized):
    task, cfg = make_task(binarized, "--eval-bleu", "--criterion", "cross_entropy")
    with metrics.aggregate(new_root=True) as aggregate:
        log = {"loss": 1.0, "ntokens": 9, "sample_size": 9, "nsentences": 1}
        task.reduce_metrics([log], task.build_criterion(cfg.criterion))
    assert "bleu" not in aggregate.get_smoothed_values()
