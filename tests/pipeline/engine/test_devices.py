"""GPUS, UPDATE_FREQ and LAUNCHER: an update sees the same text on any number of GPUs."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest
import torch
from fairseq.dataclass.configs import FairseqConfig
from fairseq.distributed.utils import infer_init_method
from omegaconf import OmegaConf
from pipeline import stages
from pipeline.engine import devices, parallel, state
from pipeline.engine.devices import WHOLE, Devices, Slot, slots
from pipeline.engine.errors import PipelineError

EIGHT = {"optimization.update_freq": [8]}
ONE = {"optimization.update_freq": [1]}


@pytest.mark.parametrize(
    ("environ", "visible", "gpus", "update_freq"),
    [
        ({}, 0, 0, 8),
        ({}, 1, 1, 8),
        ({}, 6, 4, 2),
        ({}, 8, 8, 1),
        ({}, 16, 8, 1),
        ({"GPUS": ""}, 2, 2, 4),
        ({"GPUS": "2"}, 8, 2, 4),
        ({"GPUS": "16", "LAUNCHER": "srun", "UPDATE_FREQ": "1"}, 8, 16, 1),
        ({"GPUS": "8", "LAUNCHER": "srun"}, 4, 8, 1),
        ({"UPDATE_FREQ": "3"}, 0, 0, 3),
        ({"UPDATE_FREQ": "3"}, 5, 5, 3),
    ],
)
def test_gpus_and_update_frequency_are_chosen(environ, visible, gpus, update_freq):
    devices = Devices.choose(EIGHT, environ, visible)
    assert (devices.gpus, devices.update_freq) == (gpus, update_freq)
    if "UPDATE_FREQ" not in environ:
        assert devices.batches == 8


def test_without_an_update_frequency_one_gpu_is_used():
    assert Devices.choose({}, {}, 8) == Devices(1, 1)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"GPUS": "3"}, "3 GPUs cannot share optimization.update_freq=8"),
        ({"GPUS": "16"}, "GPUS=16, but this machine shows 8: give a smaller GPUS"),
        ({"GPUS": "many"}, "GPUS=many is not a number from 1 up"),
        ({"UPDATE_FREQ": "0"}, "UPDATE_FREQ=0 is not a number from 1 up"),
        ({"LAUNCHER": "srun"}, "LAUNCHER needs GPUS"),
    ],
)
def test_numbers_that_do_not_fit(environ, says):
    with pytest.raises(PipelineError, match=says):
        Devices.choose(EIGHT, environ, 8)


def test_what_fairseq_is_told():
    assert Devices.choose(EIGHT, {}, 0).overrides() == {"optimization.update_freq": [8]}
    several = Devices.choose(EIGHT, {"GPUS": "8", "LAUNCHER": "srun --nodes=2"}, 4)
    assert several.launcher == ("srun", "--nodes=2")
    assert several.overrides() == {
        "optimization.update_freq": [1],
        "distributed_training.distributed_world_size": 8,
        "distributed_training.distributed_port": 29500,
    }


def test_torch_is_asked_for_gpus_unless_it_is_built_for_none(monkeypatch):
    """A build for CPUs is not even imported, which takes a second of every start."""
    built = {"cuda": None, "hip": None}
    monkeypatch.setattr(devices.runpy, "run_path", lambda path: built)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert devices.visible_gpus() == 0
    for name, version in (("cuda", "13.0"), ("hip", "7.0")):
        monkeypatch.setitem(built, name, version)
        assert devices.visible_gpus() == 4
        monkeypatch.setitem(built, name, None)


def test_what_this_torch_is_built_for_is_read_from_its_own_file():
    assert devices.made_for_gpus() == bool(torch.version.cuda or torch.version.hip)


@pytest.mark.parametrize(("node", "rank"), [(0, 0), (1, 4)])
def test_fairseq_finds_its_place_on_a_node_of_slurm(monkeypatch, node, rank):
    """examples/slurm: two nodes with four GPUs, one task a node."""
    cfg = OmegaConf.structured(FairseqConfig()).distributed_training
    told = Devices.choose(EIGHT, {"GPUS": "8", "LAUNCHER": "srun"}, 4).overrides()
    cfg.distributed_world_size = told["distributed_training.distributed_world_size"]
    cfg.distributed_port = told["distributed_training.distributed_port"]
    for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[1-2]")
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "1")
    monkeypatch.setenv("SLURM_NODEID", str(node))
    monkeypatch.setattr(subprocess, "check_output", lambda command: b"node1\nnode2\n")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    infer_init_method(cfg)
    assert cfg.distributed_init_method == "tcp://node1:29500"
    assert (cfg.distributed_rank, cfg.distributed_world_size) == (rank, 8)
    assert cfg.distributed_num_procs == 4


def test_the_launcher_starts_the_training(pair, tmp_path, monkeypatch):
    """On several nodes the pipeline runs on the first one; only trainings run on all."""
    launcher = tmp_path / "srun.py"
    launcher.write_text("import sys; print('started', *sys.argv[1:]); sys.exit(3)")
    monkeypatch.setenv("LAUNCHER", f"{shlex.quote(sys.executable)} {launcher} --nodes=2")
    monkeypatch.setenv("GPUS", "16")
    monkeypatch.setenv("UPDATE_FREQ", "1")
    state.write(pair.files.run_dir, "binarize", state.Record({}, done=True))
    with pytest.raises(PipelineError, match="stage teacher failed"):
        stages.table(pair)["teacher"].execute(pair.files)
    log = pair.files.log("teacher").read_text(encoding="utf-8")
    assert "started --nodes=2" in log
    assert "ka_fairseq.hydra_train" in log
    assert "distributed_training.distributed_world_size=16" in log


def test_the_number_of_gpus_is_no_input(pair, monkeypatch):
    teacher = stages.trainings(pair)[0]
    before = teacher.inputs(pair, WHOLE)
    monkeypatch.setenv("UPDATE_FREQ", "4")
    assert teacher.inputs(pair, WHOLE) != before  # another batch is another model


@pytest.mark.parametrize(
    ("jobs", "threads", "environ", "expected"),
    [
        (None, None, {}, [Slot((), 1)] * 6),
        (None, 2, {}, [Slot((), 2)] * 3),
        (None, None, {"OMP_NUM_THREADS": "4"}, [Slot((), 4)]),
        (None, 99, {}, [Slot((), 99)]),
        (1, None, {}, [Slot((), 1)]),
        (2, 3, {"OMP_NUM_THREADS": "4"}, [Slot((), 3)] * 2),
        (9, None, {}, [Slot((), 1)] * 9),
    ],
)
def test_a_thread_each_on_a_cpu(monkeypatch, jobs, threads, environ, expected):
    monkeypatch.setattr(parallel, "cores", lambda: 6)
    assert slots(jobs, threads, [ONE, EIGHT], environ, visible=0) == expected


@pytest.mark.parametrize(
    ("jobs", "trainings", "environ", "gpus"),
    [
        (None, [ONE, ONE], {}, ["0", "1", "2", "3"]),
        (None, [], {}, ["0", "1", "2", "3"]),
        (None, [ONE, EIGHT], {}, ["0,1,2,3"]),  # as many as divide it, all of one training
        (1, [ONE, ONE], {}, ["0,1,2,3"]),
        (2, [EIGHT], {}, ["0,1", "2,3"]),
        (3, [ONE], {}, ["0", "1", "2"]),
        (None, [EIGHT], {"GPUS": "2"}, ["0,1", "2,3"]),
        (None, [ONE], {"CUDA_VISIBLE_DEVICES": "4,6,GPU-a,7"}, ["4", "6", "GPU-a", "7"]),
        (None, [ONE], {"UPDATE_FREQ": "2"}, ["0,1,2,3"]),
    ],
)
def test_gpus_are_shared_out(monkeypatch, jobs, trainings, environ, gpus):
    monkeypatch.setattr(parallel, "cores", lambda: 12)
    found = slots(jobs, None, trainings, environ, visible=4)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in found] == gpus
    assert {slot.environment["OMP_NUM_THREADS"] for slot in found} == {str(12 // len(gpus))}
    for slot in found:
        for training in trainings:
            assert Devices.choose(training, environ, slot.visible).gpus <= slot.visible


@pytest.mark.parametrize(
    ("jobs", "environ", "says"),
    [
        (5, {}, "--jobs 5 leaves 0 of this machine's 4 GPUs for each training"),
        (4, {"GPUS": "2"}, "--jobs 4 leaves 1 of this machine's 4 GPUs for each training"),
        (2, {"GPUS": "8", "LAUNCHER": "srun"}, "give --jobs 1"),
    ],
)
def test_more_jobs_than_there_are_gpus(jobs, environ, says):
    with pytest.raises(PipelineError, match=says):
        slots(jobs, None, [EIGHT], environ, visible=4)


def test_a_launcher_gets_all(monkeypatch):
    assert slots(None, None, [EIGHT], {"GPUS": "8", "LAUNCHER": "srun"}, visible=4) == [Slot()]
