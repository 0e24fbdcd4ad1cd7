"""``python -m ka_fairseq.cache build …``: store the teacher's hidden states before training."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any

import hydra
import torch
from fairseq import options, tasks, utils
from fairseq.dataclass.initialize import add_defaults, hydra_init
from fairseq.dataclass.utils import convert_namespace_to_omegaconf, omegaconf_no_object_check
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

import ka_fairseq  # noqa: F401  registers the task
from ka_fairseq import task_traits
from ka_fairseq.errors import UserError
from ka_fairseq.loss.positions import target_rows
from ka_fairseq.teacher.cache.cached_dataset import KEY
from ka_fairseq.teacher.cache.share import ALL, Share, SharedDataset

DESCRIPTION = """\
Write the teacher's hidden states for every sentence pair of the training and validation sets.
A training then reads the hidden states and does not run the teacher's encoder and decoder.
For a language model, the command writes hidden states for every block of text. Give
--task language_modeling_with_teacher and the training's --tokens-per-sample and
--sample-break-mode.

The command takes the options of fairseq-train or, with --config-name, of fairseq-hydra-train.
The training's own command line works: the command reads task, data and batches, and ignores the
rest. An interrupted build continues where it stopped. Damaged entries are written again.
Several builds share the work with --shard 1/N … N/N, also on several machines with one folder.
"""
EXAMPLE = """\
example:
  python -m ka_fairseq.cache build DATA --teacher-path teacher.pt --teacher-cache DIR \\
      --max-tokens 4096
  python -m ka_fairseq.cache build --config-dir configs/demo --config-name ka
"""

# Seconds between two lines of progress when the output goes to a file.
LINES_EVERY = 1.0


def build(cfg: DictConfig, share: Share = ALL) -> None:
    """Fill the cache for all parts of the training set and for the validation sets.

    Args:
        cfg: the configuration of a training.
        share: the part of the work that this process does.

    Raises:
        UserError: ``teacher_cache`` is not set, or see :class:`.teacher_cache.TeacherCache`.
    """
    if not getattr(cfg.task, "teacher_cache", None):
        raise UserError("the cache has no folder: give one, --teacher-cache DIR")
    if share == ALL and cfg.dataset.num_shards > 1:  # fairseq's own options for a share
        share = Share(cfg.dataset.shard_id + 1, cfg.dataset.num_shards)
    task = tasks.setup_task(cfg.task)
    task.load_teacher()
    use_cuda = torch.cuda.is_available() and not cfg.common.cpu
    device = torch.device("cuda" if use_cuda else "cpu")
    parts = len(utils.split_paths(cfg.task.data))
    for split in cfg.dataset.valid_subset.split(","):
        build_split(task, cfg, split, 1, device, share)
    for epoch in range(1, parts + 1):
        build_split(task, cfg, cfg.dataset.train_subset, epoch, device, share)


def build_split(
    task: Any, cfg: DictConfig, split: str, epoch: int, device: torch.device, share: Share
) -> None:
    """Compute the teacher's missing answers for a split, or for the part that an epoch reads."""
    task.load_dataset(split, epoch=epoch)
    whole = task.dataset(split)
    name, samples = whole.name, f"{whole.store.name}s"
    dataset = SharedDataset(whole, share)
    if not len(dataset):
        print(f"{name}: 0 of 0 {samples} answered: the share {share} has no {samples}")
        return
    batches = task.get_batch_iterator(
        dataset,
        max_tokens=cfg.dataset.max_tokens or (None if cfg.dataset.batch_size else 4096),
        max_sentences=cfg.dataset.batch_size,
        max_positions=task_traits.max_positions(task),
        ignore_invalid_inputs=True,
        num_workers=cfg.dataset.num_workers,
    ).next_epoch_itr(shuffle=False)
    pad = task.target_dictionary.pad()
    answered, error = 0, ""
    interval = 0.1 if sys.stderr.isatty() else LINES_EVERY
    with tqdm(total=len(dataset), desc=name, unit=f" {samples}", mininterval=interval) as bar:
        for batch in batches:
            if batch and "hidden" not in batch[KEY]:
                batch = utils.apply_to_sample(lambda tensor: tensor.to(device), batch)
                if not answered and not task.teacher_cache.storage.exact:
                    kl = task.teacher_cache.error(batch, pad)
                    error = f"; KL(teacher ‖ kept) {kl:.1e} nats a token in the first batch"
                task.teacher_cache.answer(batch, target_rows(batch["target"], pad), pad)
                answered += batch["nsentences"]
            bar.update(batch["nsentences"] if batch else 0)
    print(f"{name}: {answered} of {len(dataset)} {samples} answered, the others were cached{error}")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse a command line and build the cache."""
    logging.getLogger().setLevel(logging.WARNING)
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(
        prog="python -m ka_fairseq.cache",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["build"], help="build: fill the cache")
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, help="options of fairseq-train or fairseq-hydra-train"
    )
    args = parser.parse_args(argv)
    share, words = _share(args.options)
    if config_name := _config_name(words):
        hydra_init(config_name)
        sys.argv = [parser.prog, *words]  # where Hydra reads its options
        _build_from_hydra(share)
        return
    training = options.get_training_parser(default_task="translation_with_teacher")
    training.set_defaults(arch="transformer")  # fairseq's parser needs one; no student is built
    build(convert_namespace_to_omegaconf(options.parse_args_and_arch(training, words)), share)


def _share(words: Sequence[str]) -> tuple[Share, list[str]]:
    """Return the share that ``--shard`` names, and the remaining words."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--shard", type=Share.parse, default=ALL)
    options, others = parser.parse_known_args(words)
    return options.shard, others


def _config_name(words: Sequence[str]) -> str | None:
    """Return the value of Hydra's ``--config-name``, or None without that option."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-name", "-cn")
    return parser.parse_known_args(words)[0].config_name


def _build_from_hydra(share: Share) -> None:
    """Build from Hydra's configuration, completed as fairseq-hydra-train completes it."""

    @hydra.main(config_path=None, config_name="config")
    def run(cfg: DictConfig) -> None:
        add_defaults(cfg)
        with omegaconf_no_object_check():
            plain = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
            build(OmegaConf.create(plain), share)

    run()


if __name__ == "__main__":
    main()
