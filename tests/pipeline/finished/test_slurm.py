"""The pipeline as a chain of jobs on a real SLURM of two nodes."""

from __future__ import annotations

import shlex
import time

import pytest
from pipeline.models import training_log

from tests.pipeline.comparing import assert_same_runs, assert_same_trainings
from tests.pipeline.project import BINARIZED
from tests.slurm.cluster import cluster

__all__ = ["cluster"]

pytestmark = [pytest.mark.slow, pytest.mark.extended]

SHARES = 3


def submitted(cluster, project, *words):
    """Submit stages; return the number of the last job."""
    cluster.run(*project.command(*words, "--submit", "--jobs", 1))
    jobs = cluster.run("squeue", "--noheader", "--format=%A", "--sort=i").stdout.split()
    return int(jobs[-1])


def test_a_chain_of_jobs_ends_in_the_same_table(finished, cluster):
    chain = finished.copied("runs as jobs", "text", "state/prepare.json")
    last = submitted(cluster, chain, "--shares", SHARES)
    assert cluster.ended(last, 900) == "COMPLETED", said(chain)
    assert not (chain.run_dir / "jobs" / "failed").exists()
    arrays = list((chain.run_dir / "jobs").glob("translate.teacher-*_*.log"))
    assert len(arrays) == SHARES
    assert_same_runs(chain, finished)


def said(project):
    return {path.name: path.read_text("utf-8")[-500:] for path in project.run_dir.glob("jobs/*")}


def test_a_job_before_its_time_limit_is_requeued_and_ends_with_the_same_bits(finished, cluster):
    """The signal that SLURM sends is sent by hand: a time limit has whole minutes."""
    parts = (*BINARIZED, "learner", "teacher", "state/learner.json", "state/teacher.json")
    project = finished.copied("runs requeued", *parts, "state/cache.teacher.json")
    job = submitted(cluster, project, "ka")
    checkpoint = project.run_dir / "ka" / "checkpoint_last.pt"
    while not checkpoint.exists() and cluster.state(job)["JobState"] in ("PENDING", "RUNNING"):
        time.sleep(0.05)
    cluster.run("scancel", "--batch", "--signal=USR1", job)
    while cluster.state(job)["Restarts"] == "0":
        state = cluster.state(job)["JobState"]
        assert state in ("RUNNING", "COMPLETING", "PENDING"), said(project)
        time.sleep(0.2)
    cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")  # SLURM waits two minutes
    assert cluster.ended(job) == "COMPLETED", said(project)
    assert_same_trainings(project, finished, "ka")


def test_two_tasks_train_a_stage_as_one_process(finished, cluster):
    """By LAUNCHER, without GPUS: both take part in each update."""
    parts = (*BINARIZED, "learner", "teacher", "state/learner.json", "state/teacher.json")
    losses = []
    for runs, env in {
        "runs of one": {"UPDATE_FREQ": "2"},
        "runs of two": {
            "UPDATE_FREQ": "1",
            "GPUS": "2",
            "LAUNCHER": "srun -N2 -n2 --ntasks-per-node=1 --kill-on-bad-exit=1",
            "SLURM_CONF": cluster.env["SLURM_CONF"],
        },
    }.items():
        project = finished.copied(runs, *parts, "state/cache.teacher.json")
        project.pipeline("ka", "--jobs", 1, **env)
        records = training_log.read(project.log("ka"))
        losses.append([float(r["loss"]) for r in records if "transfer_loss" in r])
    assert len(losses[0]) >= 4
    assert losses[1] == pytest.approx(losses[0], abs=2e-3)  # three decimals are logged


def test_a_job_that_fails_is_named_by_the_last_one(finished, cluster, tmp_path):
    project = finished.copied("runs that fail as jobs").configured(
        tmp_path, {"broken": {"config": "learner", "settings": {"task._name": "translatoin"}}}
    )
    last = submitted(cluster, project, "broken", "report")
    assert cluster.ended(last) == "FAILED"
    (line,) = (project.run_dir / "jobs" / "failed").read_text("utf-8").splitlines()
    assert line.startswith("broken: job ") and shlex.quote("broken") in line
    (log,) = project.run_dir.glob("jobs/broken-*.log")
    assert "error: stage broken failed: " in log.read_text("utf-8")
    (log,) = project.run_dir.glob("jobs/report-*.log")
    assert line in log.read_text("utf-8")
