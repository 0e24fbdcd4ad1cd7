"""The only file that knows versions: what fairseq and torch do differently from release to release.

Importing it makes checkpoints of fairseq-train loadable with ``torch.load(weights_only=True)``,
which takes nothing but tensors and plain containers and is the default from torch 2.6 on, and lets
fairseq load them in no other way under older torch either; turns whatever goes wrong while a
checkpoint is read or written into one line that names the file; makes a training that was killed
and started again the training that was not; lets several workers, CPUs and bf16 be used; and lets
fairseq 0.12.2 evaluate models under torch 1.13.
"""

from __future__ import annotations

import _codecs
import argparse
import contextlib
import errno
import functools
import importlib
import logging
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import omegaconf
import torch
import torch.distributed as dist
from fairseq import checkpoint_utils, options
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.logging import metrics
from fairseq.models import ARCH_CONFIG_REGISTRY, distributed_fairseq_model
from fairseq.modules import SinusoidalPositionalEmbedding
from fairseq.modules.transformer_layer import TransformerEncoderLayerBase
from fairseq.tasks.translation import TranslationTask
from fairseq.trainer import Trainer
from omegaconf import OmegaConf
from sacrebleu.metrics import BLEU
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ka_fairseq import restricted_pickle
from ka_fairseq.errors import UserError

OMEGACONF = tuple(int(part) for part in omegaconf.__version__.split(".")[:2])
logger = logging.getLogger(__name__)

TRUSTED_FILE_SWITCH = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1"

# Seconds to wait before a write is tried again: as often and as long as fairseq does.
RETRIES = (2.5, 2.5)
# What may pass by waiting: a disk on the network that stumbled.
PASSING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN)


def checkpoint_globals() -> list[Any]:
    """What fairseq checkpoints hold besides tensors and plain containers.

    ``args`` (an argparse.Namespace in releases up to 0.10) and, in ``extra_state``, meters and
    best scores that are numpy scalars and arrays.
    """
    multiarray = importlib.import_module(
        "numpy._core.multiarray" if hasattr(np, "_core") else "numpy.core.multiarray"
    )
    dtype_classes = {type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}
    return [
        argparse.Namespace,
        np.ndarray,
        np.dtype,
        *sorted(dtype_classes, key=lambda cls: cls.__name__),
        # A file written under numpy 1 names these by their old place, under numpy 2 by the new
        # one, whichever numpy reads it.
        *(
            (getattr(multiarray, name), f"numpy.{core}.multiarray.{name}")
            for name in ("_reconstruct", "scalar")
            for core in ("core", "_core")
        ),
    ]


def allow_fairseq_checkpoints() -> None:
    """Allow-list exactly :func:`checkpoint_globals` for ``torch.load(weights_only=True)``."""
    if hasattr(torch.serialization, "add_safe_globals"):  # since torch 2.4
        torch.serialization.add_safe_globals(checkpoint_globals())
    elif not isinstance(torch.serialization._weights_only_unpickler, SimpleNamespace):
        # Older ones have a fixed list, and torch 1.13's unpickler reads no float at all.
        torch.serialization._weights_only_unpickler = restricted_pickle.restricted_to(
            torch._weights_only_unpickler._get_allowed_globals()
            | {"_codecs.encode": _codecs.encode}  # how protocol 2 writes bytes
            | dict(map(_named, checkpoint_globals()))
        )


def _named(entry: Any) -> tuple[str, Any]:
    """``("module.name", object)`` for one of :func:`checkpoint_globals`."""
    if isinstance(entry, tuple):
        thing, name = entry
        return name, thing
    return f"{entry.__module__}.{entry.__qualname__}", entry


@contextlib.contextmanager
def weights_only() -> Iterator[None]:
    """Make ``torch.load`` refuse what could run code, as torch >= 2.6 does by itself.

    Raises nothing of its own; :data:`TRUSTED_FILE_SWITCH` in the environment switches it off.
    """
    trusted, _ = TRUSTED_FILE_SWITCH.split("=")
    forced = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    if torch.__version__ >= "2.6" or forced in os.environ or _is_set(trusted):
        yield
        return
    os.environ[forced] = "1"
    try:
        yield
    finally:
        del os.environ[forced]


def _is_set(switch: str) -> bool:
    return os.environ.get(switch, "0").lower() in ("1", "y", "yes", "true")  # as torch reads them


def foreign_globals(path: str, error: Exception) -> list[str]:
    """The names in a checkpoint's pickle that are not allow-listed; nothing of it is run.

    Args:
        path: the checkpoint.
        error: what torch.load said of it; it names the first one where torch cannot list them all
            (before torch 2.6, or for files in the format that preceded zip).
    """
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:
        named = re.search(r"GLOBAL (\S+) (?:was not|whose module)", str(error))
        return [named.group(1)] if named else []


def explain_unreadable(path: str, error: Exception) -> UserError:
    """One line for a checkpoint that could not be read: foreign contents, or damage."""
    foreign = foreign_globals(path, error)
    if foreign:
        return UserError(
            f"{path} holds {', '.join(foreign)}, which no fairseq checkpoint needs and which could "
            f"run code, so it was not loaded; if you trust the file, run again with "
            f"{TRUSTED_FILE_SWITCH} in the environment"
        )
    reason = (str(error).strip() or "no reason given").splitlines()[0]
    return UserError(
        f"{path} cannot be read as a fairseq checkpoint ({type(error).__name__}: {reason}); it is "
        f"truncated, damaged or another kind of file: replace it"
    )


def damaged_part(path: str) -> str | None:
    """The first part of a checkpoint that does not fit its checksum.

    torch.load leaves the checksums of its zip files unread, and so takes a flipped bit in a weight
    for a weight. Files in the format that preceded zip (torch < 1.6) have none.
    """
    local = PathManager.get_local_path(path)
    if not zipfile.is_zipfile(local):
        return None
    with zipfile.ZipFile(local) as archive:
        return archive.testzip()


def _one_line_errors(load: Callable[..., dict]) -> Callable[..., dict]:
    @functools.wraps(load)
    def load_checkpoint_to_cpu(path: str, *args: Any, **kwargs: Any) -> dict:
        if not PathManager.isfile(path):
            raise UserError(f"no checkpoint at {path}: check the path")
        try:
            damaged = damaged_part(path)
            with weights_only():
                state = None if damaged else load(path, *args, **kwargs)
        except PermissionError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        except Exception as error:
            raise explain_unreadable(path, error) from error
        if damaged:
            raise UserError(
                f"{path} is damaged: {damaged} in it does not fit its checksum; replace it"
            )
        if not isinstance(state, Mapping) or "model" not in state:
            raise UserError(
                f"{path} is not a fairseq checkpoint: it has no entry 'model'; give a file that "
                f"fairseq-train wrote"
            )
        return state

    load_checkpoint_to_cpu.explains_errors = True
    return load_checkpoint_to_cpu


def explain_checkpoint_errors() -> None:
    """Make fairseq's own loading (--restore-file, --path, …) tell errors in one line.

    fairseq passes torch's many-line message on without the file's name, and calls the function by
    its module, so replacing it there reaches the trainer, fairseq-generate and this package alike.
    """
    if not hasattr(checkpoint_utils.load_checkpoint_to_cpu, "explains_errors"):
        checkpoint_utils.load_checkpoint_to_cpu = _one_line_errors(
            checkpoint_utils.load_checkpoint_to_cpu
        )


class _Watched:
    """A file that remembers why writing failed: torch.save loses the reason on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _write(state: Any, path: str) -> None:
    with Path(path).open("wb") as file:
        watched = _Watched(file)
        try:
            torch.save(state, watched)
        except RuntimeError as error:
            raise watched.error or error from None
        _reach_disk(file)


def _reach_disk(file: BinaryIO) -> None:
    """Without this, a power cut may leave a file that was renamed already without its contents."""
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def _written_whole(path: str) -> Iterator[str]:
    """Yield a name to write to; it becomes `path` where the block succeeds, else it is removed.

    Raises:
        UserError: the system refused, as where the disk is full.
    """
    unfinished = f"{path}.tmp"
    try:
        yield unfinished
        Path(unfinished).replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(unfinished).unlink(missing_ok=True)
        raise UserError(
            f"{path} cannot be written: {error.strerror or error}; mend that and run the same "
            f"command again (what was written before is whole)"
        ) from error


def save_whole(state: Any, path: str) -> None:
    """Write a checkpoint so that at any moment there is the old one or the new one.

    Raises:
        UserError: the system refused, as where the disk is full.
    """
    with _written_whole(path) as unfinished:
        for seconds in RETRIES:
            try:
                return _write(state, unfinished)
            except OSError as error:
                if error.errno not in PASSING:
                    raise
                logger.warning(f"{unfinished}: {error}; trying again")
                time.sleep(seconds)
        _write(state, unfinished)


def _saves_whole(save: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(save)
    def torch_persistent_save(obj: Any, filename: Any, async_write: bool = False) -> None:
        remote = not isinstance(filename, str) or not PathManager.supports_rename(filename)
        if async_write or remote:
            save(obj, filename, async_write)
        else:
            save_whole(obj, filename)

    torch_persistent_save.writes_whole = True
    return torch_persistent_save


def _copies_whole(copy: Callable[..., bool]) -> Callable[..., bool]:
    @functools.wraps(copy)
    def copy_whole(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
        if PathManager.path_requires_pathmanager(src_path) or not PathManager.supports_rename(
            dst_path
        ):
            return copy(src_path, dst_path, overwrite)
        with _written_whole(dst_path) as unfinished:
            shutil.copyfile(src_path, unfinished)
            with Path(unfinished).open("rb") as file:
                _reach_disk(file)
        return True

    copy_whole.writes_whole = True
    return copy_whole


def _explains_unwritable(verify: Callable[[str], None]) -> Callable[[str], None]:
    @functools.wraps(verify)
    def verify_checkpoint_directory(save_dir: str) -> None:
        try:
            verify(save_dir)
        except OSError as error:
            raise UserError(
                f"{save_dir} cannot be written: {error.strerror}; give another --save-dir "
                f"(checkpoint.save_dir)"
            ) from error

    verify_checkpoint_directory.writes_whole = True
    return verify_checkpoint_directory


def write_checkpoints_whole() -> None:
    """Make fairseq write checkpoints whole or not at all, and say in one line why not.

    fairseq writes a checkpoint under a temporary name and renames it, but then *copies* it onto
    checkpoint_best.pt and checkpoint_last.pt: a kill or a full disk leaves half a file there, from
    which no training goes on. Where writing fails it tries again behind what it wrote before, in
    the same file, so that a disk with room again gets a file that nobody can read; and what it
    raises at last (torch's "unexpected pos 768 vs 662") names neither the file nor the reason.
    """
    places = (
        (checkpoint_utils, "torch_persistent_save", _saves_whole),
        (checkpoint_utils, "verify_checkpoint_directory", _explains_unwritable),
    )
    for module, name, wrap in places:
        if not hasattr(getattr(module, name), "writes_whole"):
            setattr(module, name, wrap(getattr(module, name)))
    if not hasattr(PathManager.copy, "writes_whole"):
        PathManager.copy = staticmethod(_copies_whole(PathManager.copy))


def _keeps_inner_meters(load_checkpoint: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load_checkpoint)
    def with_inner_meters(
        self: Trainer, *args: Any, reset_meters: bool = False, **kwargs: Any
    ) -> Any:
        extra_state = load_checkpoint(self, *args, reset_meters=reset_meters, **kwargs)
        if extra_state and not reset_meters:
            kept = extra_state.get("metrics", {})
            metrics.load_state_dict({name: kept[name] for name in ("train_inner",) if name in kept})
        return extra_state

    with_inner_meters.resumes_exactly = True
    return with_inner_meters


def _ends_where_it_ended(load_checkpoint: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load_checkpoint)
    def unless_at_end(cfg: Any, trainer: Trainer, **kwargs: Any) -> Any:
        loaded = load_checkpoint(cfg, trainer, **kwargs)
        updates = trainer.get_num_updates()
        if 0 < trainer.cfg.optimization.max_update <= updates:
            logger.info(
                f"this training has made {updates} updates of {trainer.cfg.optimization.max_update}"
                f" (--max-update): nothing is left to do"
            )
            raise SystemExit(0)
        return loaded

    unless_at_end.resumes_exactly = True
    return unless_at_end


def resume_exactly() -> None:
    """Make a training that was cut off and started again log and learn what it would have.

    After a checkpoint at the end of an epoch fairseq forgets the losses since the last line of the
    log, so that the next line is a mean over fewer updates; and a training that had made its last
    update makes one more each time that it is started again.
    """
    if not hasattr(Trainer.load_checkpoint, "resumes_exactly"):
        Trainer.load_checkpoint = _keeps_inner_meters(Trainer.load_checkpoint)
    if not hasattr(checkpoint_utils.load_checkpoint, "resumes_exactly"):
        checkpoint_utils.load_checkpoint = _ends_where_it_ended(checkpoint_utils.load_checkpoint)


def bleu_so_far(meters: Mapping[str, Any]) -> float:
    """Validation BLEU from the sums that fairseq's task logs; 0 while there are none."""
    if "_bleu_counts" not in meters:
        return 0.0
    bleu = BLEU.compute_bleu(
        correct=meters["_bleu_counts"].sum,
        total=meters["_bleu_totals"].sum,
        sys_len=int(meters["_bleu_sys_len"].sum),
        ref_len=int(meters["_bleu_ref_len"].sum),
        smooth_method="exp",
    )
    return round(bleu.score, 2)


def _with_bleu_of_silence(reduce_metrics: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(reduce_metrics)
    def with_bleu(self: TranslationTask, logging_outputs: Any, criterion: Any) -> None:
        if any("_bleu_sys_len" in log for log in logging_outputs):
            # Before fairseq's own, which leaves a meter alone that is there already.
            metrics.log_derived("bleu", bleu_so_far)
        reduce_metrics(self, logging_outputs, criterion)

    with_bleu.knows_silence = True
    return with_bleu


def let_silent_models_be_validated() -> None:
    """Give a model that translates everything by nothing the BLEU 0.

    fairseq logs no BLEU where no token was generated, and then stops with KeyError: 'bleu' where
    checkpoints are chosen by it (as a model may well do in its first epoch).
    """
    if not hasattr(TranslationTask.reduce_metrics, "knows_silence"):
        TranslationTask.reduce_metrics = _with_bleu_of_silence(TranslationTask.reduce_metrics)


def _broadcast_object(obj: Any, src_rank: int, group: Any, dist_device: torch.device) -> Any:
    received = [obj]
    dist.broadcast_object_list(received, src=src_rank, group=group, device=dist_device)
    return received[0]


def let_workers_share_a_checkpoint() -> None:
    """Let the first worker hand the checkpoint that it read on to the others.

    fairseq wraps it in torch.save and torch.load, and torch >= 2.6 refuses what arrives (a
    checkpoint holds an omegaconf configuration by then), so that several workers could start from
    no checkpoint at all. What arrives is not the file: it comes out of the memory of a worker of
    the same run, which has read the file with ``weights_only=True``.
    """
    distributed_utils._broadcast_object_slow = _broadcast_object


class _DistributedDataParallel(DistributedDataParallel):
    def __init__(self, module: torch.nn.Module, **options: Any) -> None:
        if all(parameter.device.type == "cpu" for parameter in module.parameters()):
            options |= {"device_ids": None, "output_device": None}
        super().__init__(module, **options)


def let_workers_run_on_cpus() -> None:
    """Leave the number of the GPU out where there is none.

    With --ddp-backend pytorch_ddp, the default, fairseq names GPU 0 to torch even with --cpu, and
    torch stops there.
    """
    distributed_fairseq_model.DistributedDataParallel = _DistributedDataParallel


def _with_bf16_anywhere(parse: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(parse)
    def parse_args_and_arch(*args: Any, **kwargs: Any) -> Any:
        parsed = parse(*args, **kwargs)
        for part in parsed if isinstance(parsed, tuple) else (parsed,):
            if getattr(part, "bf16", False) and distributed_utils.xm is None:
                part.tpu = False
        return parsed

    parse_args_and_arch.knows_bf16 = True
    return parse_args_and_arch


def let_bf16_run_without_a_tpu() -> None:
    """Take --bf16 as a precision, on GPUs and CPUs too.

    fairseq's command lines read it as --tpu as well, and stop where there is no torch_xla;
    fairseq-hydra-train does not.
    """
    if not hasattr(options.parse_args_and_arch, "knows_bf16"):
        options.parse_args_and_arch = _with_bf16_anywhere(options.parse_args_and_arch)


FAST_PATH_COPIES = tuple(
    f"{layer}_{kind}"
    for layer in ("in_proj", "out_proj", "fc1", "fc2")
    for kind in ("weight", "bias")
)
"""Parameters of an encoder layer of fairseq 0.12.2 that repeat others."""


def _without_copies(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def without_copies(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        for name in FAST_PATH_COPIES:
            delattr(self, name)

    return without_copies


def _upgrade_forgetting_copies(upgrade: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(upgrade)
    def forgetting_copies(self: nn.Module, state_dict: dict[str, Any], name: str) -> None:
        for copy in FAST_PATH_COPIES:
            state_dict.pop(f"{name}.{copy}", None)
        upgrade(self, state_dict, name)

    forgetting_copies.forgets_copies = True
    return forgetting_copies


def leave_out_fast_path() -> None:
    """Make encoders without torch's fast path for inference, which only fairseq 0.12.2 takes.

    A layer of that release has a second copy of its weights for it (``in_proj_weight``, …): trained
    by nothing, saved in each checkpoint, counted as parameters, in the way of
    DistributedDataParallel as they get no gradient, and unknown to all other releases. And with
    torch 1.13, which wants to be told what kind of mask it gets, the path stops at the first padded
    batch: "Mask Type should be defined". A layer takes it only after its own
    ``_load_from_state_dict`` has filled the copies.

    Checkpoints that have the copies load in any release; without them they do so anyway.
    """
    layer = TransformerEncoderLayerBase
    if hasattr(layer.upgrade_state_dict_named, "forgets_copies"):
        return
    layer.upgrade_state_dict_named = _upgrade_forgetting_copies(layer.upgrade_state_dict_named)
    if "_load_from_state_dict" in vars(layer):
        del layer._load_from_state_dict
        layer.__init__ = _without_copies(layer.__init__)


POSITION_MARKER = "_float_tensor"


def _with_unsaved_marker(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def with_unsaved_marker(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self.register_buffer(POSITION_MARKER, torch.zeros(1), persistent=False)

    return with_unsaved_marker


def _load_but_marker(self: nn.Module, state_dict: dict, prefix: str, *args: Any) -> None:
    state_dict.pop(prefix + POSITION_MARKER, None)
    nn.Module._load_from_state_dict(self, state_dict, prefix, *args)


def keep_position_marker_out_of_checkpoints() -> None:
    """Let the same training write the same checkpoint, under fairseq 0.12.2 too.

    That release marks the precision of sine positions with a tensor that it never fills, and saves
    whatever was in its memory; loading puts in another one like it.
    """
    positions = SinusoidalPositionalEmbedding
    if POSITION_MARKER in positions(embedding_dim=4, padding_idx=None, init_size=2).state_dict():
        positions.__init__ = _with_unsaved_marker(positions.__init__)
        positions._load_from_state_dict = _load_but_marker


def _filling_configs(fill: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(fill)
    def fill_config(cfg: Any) -> None:
        if not OmegaConf.is_config(cfg):
            fill(cfg)
            return
        options = argparse.Namespace(**OmegaConf.to_container(cfg))
        fill(options)
        # The trainer asks for it before each save, and compares the None it gets with 0.
        cfg.update({"base_layers": 0, **vars(options)})

    fill_config.fills_configs = True
    return fill_config


def let_architectures_fill_configs() -> None:
    """Give an architecture named in a Hydra config its sizes, under OmegaConf 2.0 too.

    fairseq's architectures fill in what is not set by ``getattr(args, name, default)``. The
    OmegaConf that fairseq 0.12.2 asks for answers None there, for which fairseq then takes the
    sizes of its base Transformer: transformer_tiny got 45 million parameters.
    """
    if OMEGACONF >= (2, 1):
        return
    for name, fill in ARCH_CONFIG_REGISTRY.items():
        if not hasattr(fill, "fills_configs"):
            ARCH_CONFIG_REGISTRY[name] = _filling_configs(fill)


allow_fairseq_checkpoints()
explain_checkpoint_errors()
write_checkpoints_whole()
resume_exactly()
let_silent_models_be_validated()
let_workers_share_a_checkpoint()
let_workers_run_on_cpus()
let_bf16_run_without_a_tpu()
leave_out_fast_path()
keep_position_marker_out_of_checkpoints()
let_architectures_fill_configs()
