"""Trainings and translations as jobs of a real SLURM, on CPUs."""

from __future__ import annotations

import filecmp
import shlex
import subprocess
import time

import pytest
import torch

from tests.support import (
    command_line,
    records,
    same_weights,
    succeeded,
    train_options,
    train_together,
    weights,
)

pytestmark = [pytest.mark.slow, pytest.mark.extended]

# One order of the batches, whoever shares them out; Adam's usual epsilon makes full steps of noise.
ORDER = ("--curriculum", 9, "--required-batch-size-multiple", 1, "--batch-size", 24)
STEADY = (*ORDER, "--max-tokens", 10**6, "--log-interval", 1, "--adam-eps", 1e-5)
TASK = ("--task", "translation_with_teacher", "--criterion", "forward_kl", "--max-update", 12)
# Weights are of the order of 0.1, and move by 1e-2.
CLOSE = {"atol": 1e-5, "rtol": 0}


@pytest.fixture
def words(binarized, teacher_file, tmp_path):
    """What fairseq-train is given, to train into a folder of this name."""

    def words(folder, *more):
        teacher = ("--teacher-path", teacher_file, "--teacher-data", binarized)
        return train_options(binarized, tmp_path / folder, *TASK, *teacher, *STEADY, *more)

    return words


@pytest.mark.parametrize("cached", [False, True])
def test_two_tasks_train_as_one_process(cluster, words, tmp_path, cached):
    cache = ("--teacher-cache", tmp_path / "cache") if cached else ()
    (alone,) = succeeded(train_together(words("alone", "--update-freq", 2, *cache)))
    command = command_line("fairseq-train", *words("two", "--distributed-world-size", 2, *cache))
    both = cluster.run("srun", "-N2", "-n2", "--ntasks-per-node=1", *command)
    losses = [
        torch.tensor([float(record["loss"]) for record in records(result, "train_inner")])
        for result in (alone, both)
    ]
    assert len(losses[0]) == 12
    torch.testing.assert_close(*losses, atol=2e-3, rtol=0)  # three decimals are logged
    torch.testing.assert_close(weights(tmp_path / "two"), weights(tmp_path / "alone"), **CLOSE)


def test_another_number_of_tasks_than_workers_is_one_line(cluster, words):
    command = command_line("fairseq-train", *words("three", "--distributed-world-size", 3))
    result = subprocess.run(
        ["srun", "-N2", "-n2", *command], env=cluster.env, capture_output=True, text=True
    )
    assert result.returncode and "srun started 2 tasks" in result.stderr


def test_an_array_of_three_makes_the_translations_of_one(
    cluster, binarized, teacher_file, tmp_path
):
    def distilled(folder, *more):
        told = ("--path", teacher_file, "--beam", 2, "--per-file", 50, *more)
        told += ("--destdir", tmp_path / folder)
        return shlex.join(map(str, ("python", "-m", "ka_fairseq.distill", binarized, *told)))

    share = distilled("shares") + " --shard $SLURM_ARRAY_TASK_ID/3"
    array = cluster.submit(share, "--array=1-3")
    merged = cluster.submit(distilled("shares", "--merge"), f"--dependency=afterok:{array}")
    whole = cluster.submit(distilled("whole"))
    assert cluster.ended(merged) == cluster.ended(whole) == "COMPLETED"
    names = [f"train.de-en.{side}.{kind}" for side in ("de", "en") for kind in ("bin", "idx")]
    same, *others = filecmp.cmpfiles(tmp_path / "whole", tmp_path / "shares", names, shallow=False)
    assert same == names, others


def test_a_requeued_training_ends_with_the_bits_of_one_that_was_not(cluster, words, tmp_path):
    more = ("--max-update", 40, "--save-interval-updates", 10)
    succeeded(train_together(words("whole", *more)))
    command = command_line("fairseq-train", *words("requeued", *more))
    job = cluster.submit(f"exec {shlex.join(command)}", "--requeue")
    checkpoint = tmp_path / "requeued" / "checkpoint_last.pt"
    while not checkpoint.exists() and cluster.state(job)["JobState"] in ("PENDING", "RUNNING"):
        time.sleep(0.1)
    cluster.run("scontrol", "requeue", job)
    cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")  # SLURM waits two minutes
    assert cluster.ended(job) == "COMPLETED" and cluster.state(job)["Restarts"] == "1"
    log = (cluster.folder / f"job-{job}-4294967294.log").read_text("utf-8")
    assert "Loaded checkpoint" in log
    assert same_weights(weights(tmp_path / "requeued"), weights(tmp_path / "whole"))
