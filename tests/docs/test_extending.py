"""What docs/extending.md shows, through the command lines."""

import pytest

from tests.doc_commands import block_with
from tests.support import records, train


@pytest.mark.slow
def test_divergences_of_ones_own_train(binarized, teacher_file, tmp_path):
    """Both that are shown, in one module; the one that has an option of its own, with it."""
    folder = tmp_path / "mine"
    folder.mkdir()
    shown = [block_with("docs/extending.md", f'("{name}")', "python") for name in NAMES]
    (folder / "__init__.py").write_text("\n\n".join(shown), encoding="utf-8")
    result = train(
        binarized,
        tmp_path / "out",
        *("--user-dir", folder, "--task", "translation_with_teacher"),
        *("--teacher-path", teacher_file, "--transfer-weight", 1),
        *("--criterion", "transfer", "--divergence", "renyi", "--renyi-alpha", 0.3),
        *("--max-update", 20),
    )
    losses = [float(record["transfer_loss"]) for record in records(result, "train_inner")]
    assert losses[0] > losses[-1] > 0


NAMES = ("hellinger", "renyi")
