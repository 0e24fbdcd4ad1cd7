"""What docs/extending.md shows, through the command lines."""

import pytest

from tests.doc_commands import block_with
from tests.support import records, train


@pytest.mark.slow
def test_what_a_user_registers_trains(binarized, teacher_file, tmp_path):
    """All in one module: two divergences, one with an option, and a task with views."""
    folder = tmp_path / "mine"
    folder.mkdir()
    shown = [block_with("docs/extending.md", f'("{name}"', "python") for name in (*NAMES, TASK)]
    (folder / "__init__.py").write_text("\n\n".join(shown), encoding="utf-8")
    result = train(
        binarized,
        tmp_path / "out",
        *("--user-dir", folder, "--task", TASK),
        *("--teacher-path", teacher_file, "--transfer-weight", 1),
        *("--criterion", "transfer", "--divergence", "renyi", "--renyi-alpha", 0.3),
        *("--max-update", 20),
    )
    losses = [float(record["transfer_loss"]) for record in records(result, "train_inner")]
    assert losses[0] > losses[-1] > 0


NAMES = ("hellinger", "renyi")
TASK = "translation_with_shuffled_prefixes"
