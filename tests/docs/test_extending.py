"""What docs/extending.md shows, through the command lines."""

import pytest

from tests.doc_commands import block_with
from tests.support import records, train


@pytest.mark.slow
def test_a_divergence_of_ones_own_trains(binarized, teacher_file, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    shown = block_with("docs/extending.md", "register_divergence", language="python")
    (folder / "__init__.py").write_text(shown, encoding="utf-8")
    result = train(
        binarized,
        tmp_path / "out",
        *("--user-dir", folder, "--task", "translation_with_teacher"),
        *("--teacher-path", teacher_file, "--transfer-weight", 1),
        *("--criterion", "transfer", "--divergence", "hellinger", "--max-update", 20),
    )
    losses = [float(record["transfer_loss"]) for record in records(result, "train_inner")]
    # Hellinger's square lies between 0 and 1: in bits, below 1.45; and it is minimised.
    assert 1.45 > losses[0] > losses[-1] > 0
