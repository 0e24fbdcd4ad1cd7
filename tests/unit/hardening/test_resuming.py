"""A finished training that is started again ends as any other does; nothing else is touched."""

import copy
import re
from unittest.mock import MagicMock

import pytest
import torch
import yaml
from fairseq import checkpoint_utils, options
from fairseq.dataclass.configs import CheckpointConfig
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from tests.support import USER_DIR, run, train_options

PLAIN = ("--task", "translation", "--criterion", "cross_entropy")


def updates(folder):
    state = torch.load(folder / "checkpoint_last.pt", weights_only=True)
    return state["optimizer_history"][-1]["num_updates"]


@pytest.mark.parametrize("saved", [None, {"train_iterator": {"epoch": 3}}], ids=["none", "some"])
def test_a_trainer_that_is_none_of_fairseqs_is_left_alone(saved):
    """fairseq's own tests load checkpoints with such a trainer, whose numbers are no numbers."""
    trainer = MagicMock(checkpoint_suffix="")
    trainer.load_checkpoint.return_value = saved
    extra_state, epoch_itr = checkpoint_utils.load_checkpoint(CheckpointConfig(), trainer)
    assert extra_state is saved
    assert epoch_itr is trainer.get_train_iterator.return_value


@pytest.fixture
def training(binarized, tmp_path):
    """fairseq's own training in this process, as a notebook calls it: updates → checkpoints."""
    # Not above: it sets up logging, where pytest does not listen yet.
    from fairseq_cli.train import main

    parser = options.get_training_parser()
    arguments = [str(option) for option in train_options(binarized, tmp_path, *PLAIN)]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))

    def training(max_update, max_epoch=0):
        mine = copy.deepcopy(cfg)
        mine.optimization.max_update = max_update
        mine.optimization.max_epoch = max_epoch
        main(mine)
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    return training


@pytest.mark.parametrize("max_epoch", [0, 5], ids=["any epochs", "five epochs"])
def test_a_finished_training_returns_and_writes_nothing(training, tmp_path, caplog, max_epoch):
    finished = training(2, max_epoch)
    with caplog.at_level("INFO"):
        assert training(2, max_epoch) == finished
    assert "2 updates of 2 (--max-update): nothing is left to do" in caplog.text
    assert "done training" in caplog.text  # fairseq's last line
    training(3, max_epoch)
    assert updates(tmp_path) == 3


@pytest.mark.slow
def test_a_sweep_outlives_a_job_that_is_finished(binarized, tmp_path):
    config = {
        "common": {"user_dir": str(USER_DIR), "cpu": True, "seed": 1},
        "task": {"_name": "translation", "data": str(binarized)},
        "model": {"_name": "transformer_tiny"},
        "criterion": {"_name": "cross_entropy"},
        "optimizer": {"_name": "adam"},
        "lr_scheduler": {"_name": "fixed"},
        "optimization": {"lr": [0.002], "max_update": 1},
        "dataset": {"max_tokens": 1000, "num_workers": 0},
        "checkpoint": {"save_dir": str(tmp_path / "out"), "no_epoch_checkpoints": True},
    }
    text = "# @package _global_\n" + yaml.safe_dump(config)
    (tmp_path / "plain.yaml").write_text(text, encoding="utf-8")
    jobs = ("-m", "optimization.max_update=2,1,3", f"hydra.sweep.dir={tmp_path}/jobs")
    swept = run("fairseq-hydra-train", "--config-dir", tmp_path, "--config-name", "plain", *jobs)
    said = swept.stdout + swept.stderr
    assert len(re.findall("done training", said)) == 3
    assert len(re.findall("2 updates of 1 .* nothing is left to do", said)) == 1
    assert updates(tmp_path / "out") == 3
