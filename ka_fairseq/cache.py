"""``python -m ka_fairseq.cache build …``: have the teacher answer everything beforehand."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any

import torch
from fairseq import options, tasks, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import DictConfig
from tqdm import tqdm

import ka_fairseq  # noqa: F401  registers the task
from ka_fairseq import task_traits
from ka_fairseq.errors import UserError
from ka_fairseq.loss.positions import target_rows
from ka_fairseq.teacher.cache.cached_dataset import KEY

DESCRIPTION = """\
Write the teacher's hidden states for every sentence pair of the training and validation sets, so
that no training has to run its encoder and decoder; of a language model's text, for every block
(--task language_modeling_with_teacher, with the training's --tokens-per-sample and
--sample-break-mode). Takes the options of fairseq-train: the very command line of the training will
do; task, data and batches are read from it, the rest is not needed here. A build that was cut off
goes on where it was; what is damaged is written anew.
Several builds share the work with --num-shards N --shard-id I.
"""
EXAMPLE = """\
example:
  python -m ka_fairseq.cache build DATA --teacher-path teacher.pt --teacher-cache DIR \\
      --max-tokens 4096
"""


def build(cfg: DictConfig) -> None:
    """Fill the cache for the training set, all its parts, and the validation sets.

    Raises:
        UserError: no ``teacher_cache``, or see :class:`.teacher_cache.TeacherCache`.
    """
    if not getattr(cfg.task, "teacher_cache", None):
        raise UserError("say where the cache shall be: --teacher-cache DIR")
    task = tasks.setup_task(cfg.task)
    task.load_teacher()
    use_cuda = torch.cuda.is_available() and not cfg.common.cpu
    device = torch.device("cuda" if use_cuda else "cpu")
    parts = len(utils.split_paths(cfg.task.data))
    for split in cfg.dataset.valid_subset.split(","):
        build_split(task, cfg, split, 1, device)
    for epoch in range(1, parts + 1):
        build_split(task, cfg, cfg.dataset.train_subset, epoch, device)


def build_split(task: Any, cfg: DictConfig, split: str, epoch: int, device: torch.device) -> None:
    """Have the teacher answer what is missing of a split, or of the part that an epoch reads."""
    task.load_dataset(split, epoch=epoch)
    dataset = task.dataset(split)
    batches = task.get_batch_iterator(
        dataset,
        max_tokens=cfg.dataset.max_tokens or (None if cfg.dataset.batch_size else 4096),
        max_sentences=cfg.dataset.batch_size,
        max_positions=task_traits.max_positions(task),
        ignore_invalid_inputs=True,
        num_shards=cfg.dataset.num_shards,
        shard_id=cfg.dataset.shard_id,
        num_workers=cfg.dataset.num_workers,
    ).next_epoch_itr(shuffle=False)
    pad = task.target_dictionary.pad()
    answered = 0
    for batch in tqdm(batches, dataset.name, unit="batch", disable=None):
        if not batch or "hidden" in batch[KEY]:
            continue
        batch = utils.apply_to_sample(lambda tensor: tensor.to(device), batch)
        task.teacher_cache.answer(batch, target_rows(batch["target"], pad), pad)
        answered += batch["nsentences"]
    samples = f"{len(dataset)} {dataset.store.name}s"
    print(f"{dataset.name}: {answered} of {samples} answered, the others were there")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse a command line and do what it says."""
    logging.getLogger().setLevel(logging.WARNING)
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(
        prog="python -m ka_fairseq.cache",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["build"], help="what to do")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of fairseq-train")
    args = parser.parse_args(argv)
    training = options.get_training_parser(default_task="translation_with_teacher")
    training.set_defaults(arch="transformer")  # fairseq's parser asks for one; no learner is built
    build(convert_namespace_to_omegaconf(options.parse_args_and_arch(training, args.options)))


if __name__ == "__main__":
    main()
