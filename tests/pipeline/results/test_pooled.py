"""Pooling over texts, on numbers that were worked out by hand."""

from __future__ import annotations

import pandas as pd
import pytest
from pipeline import pool
from pipeline.engine.errors import PipelineError
from pipeline.results import pooled

# Student's 97.5 % and 80 % quantiles for two degrees of freedom, from a printed table.
T_975, T_80 = 4.303, 1.061


def scores(path, rows):
    columns = ["test", "model", "seed", "bleu", "chrf"]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path


@pytest.fixture
def texts(tmp_path):
    """KD − control: 1 on a, 2 on b (two test sets), 3 on c (one seed is of KD alone)."""
    a = [("t", "control", 1, 10, 0), ("t", "kd", 1, 10.5, 0)]
    a += [("t", "control", 2, 11, 0), ("t", "kd", 2, 12.5, 0), ("t", "teacher", None, 20, 0)]
    b = [("t", "control", 1, 10, 0), ("t", "kd", 1, 9, 0)]
    b += [("u", "control", 1, 20, 0), ("u", "kd", 1, 25, 0)]
    c = [("t", "control", 1, 5, 0), ("t", "kd", 1, 8, 0), ("t", "kd", 2, 99, 0)]
    return {
        name: scores(tmp_path / f"{name}.csv", rows)
        for name, rows in {"a": a, "b": b, "c": c}.items()
    }


def test_the_interval_is_students_over_texts(texts):
    found = pooled.pooled(pooled.by_seed(pooled.read(texts, "bleu"), "kd", "control"))
    assert found.by_text == {"a": 1, "b": 2, "c": 3}
    error = 1 / 3**0.5  # of the mean of 1, 2, 3
    assert found.mean == pytest.approx(2)
    assert (found.low, found.high) == pytest.approx(
        (2 - T_975 * error, 2 + T_975 * error), abs=1e-3
    )
    assert found.detectable == pytest.approx((T_975 + T_80) * error, abs=1e-3)
    assert (found.above, found.pairs) == (4, 4)


def test_the_command_writes_table_numbers_and_forest(texts, tmp_path, capsys):
    words = [f"{name}={path}" for name, path in texts.items()]
    out = tmp_path / "out"
    assert pool.main([*words, "--methods", "kd", "--output", str(out)]) == 0
    assert "| kd − control | +2.00  | [-0.48, 4.48]" in capsys.readouterr().out
    assert (out / "forest.png").stat().st_size and (out / "forest.svg").stat().st_size
    assert pd.read_csv(out / "pooled.csv").loc[0, ["a", "b", "c"]].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda path: path.unlink(), "no file .*a.csv"),
        (lambda path: path.write_bytes(b""), "is not a CSV"),
        (lambda path: path.write_text("test,model\n"), "no column seed; it has test, model"),
        (
            lambda path: scores(path, [("t", "ka", 1, 1, 1)]),
            "a has no common seed of kd and control",
        ),
    ],
)
def test_a_mistake_in_a_file_is_one_line(texts, change, says):
    change(texts["a"])
    with pytest.raises(PipelineError, match=says):
        pooled.by_seed(pooled.read(texts, "bleu"), "kd", "control")


def test_sizes_are_not_averaged(texts):
    one = pd.read_csv(texts["a"]).assign(student="small")
    one.to_csv(texts["a"], index=False)
    assert pooled.by_seed(pooled.read(texts, "bleu"), "kd", "control")["a"].tolist() == [0.5, 1.5]
    pd.concat([one, one.assign(student="large")]).to_csv(texts["a"], index=False)
    with pytest.raises(PipelineError, match=r"several student sizes \(small, large\)"):
        pooled.read(texts, "bleu")


def test_a_mistake_in_what_is_asked_is_one_line(texts):
    found = pooled.read(texts, "bleu")
    with pytest.raises(PipelineError, match="no text has tvd: choose from control, kd"):
        pooled.by_seed(found, "tvd", "control")
    one = pooled.by_seed(found[found["text"] == "a"], "kd", "control")
    with pytest.raises(PipelineError, match="two texts or more"):
        pooled.pooled(one)
