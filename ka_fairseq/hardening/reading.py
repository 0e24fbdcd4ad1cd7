"""Read checkpoints safely: run no code from a checkpoint, and report each error in one line."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.file_io import PathManager
from fairseq.trainer import Trainer

from ka_fairseq.errors import UserError

TRUSTED_FILE_SWITCH = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1"

# Options of a model that decide the names and shapes of its weights.
_SHAPES_WEIGHTS = re.compile(
    r"_embed_dim$|_layers$|_learned_pos$|_normalize_before$|^share_|^adaptive_|_layernorm_embedding$"
    r"|^layernorm_embedding$|^no_token_positional_embeddings$|_hidden_size$|_input_dim$|_output_dim$"
)


class _LengthChecked:
    """torch's reader of zip files, with a check that a part has its tensor's length."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def get_storage_from_record(self, name: str, length: int, dtype: Any) -> Any:
        held = len(self._reader.get_record(name))
        if held != length:
            raise RuntimeError(f"{name} has {held} bytes, but its tensor has {length}")
        return self._reader.get_storage_from_record(name, length, dtype)


class _LengthCheckingReader(torch.serialization._opener):
    def __init__(self, name_or_buffer: Any) -> None:
        super().__init__(_LengthChecked(torch._C.PyTorchFileReader(name_or_buffer)))


def check_lengths_of_tensors() -> None:
    """Make old versions of torch refuse a checkpoint with a part that is shorter than its tensor.

    torch 1.13 would fill the rest of the tensor with the bytes that follow the part in memory.
    """
    if not hasattr(torch.serialization, "add_safe_globals"):  # since torch 2.4
        torch.serialization._open_zipfile_reader = _LengthCheckingReader


@contextlib.contextmanager
def weights_only() -> Iterator[None]:
    """Make ``torch.load`` refuse files that could run code, as torch >= 2.6 does by default.

    torch.load raises the error, not this context manager. :data:`TRUSTED_FILE_SWITCH` in the
    environment switches the refusal off.
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
    """Return the names in a checkpoint's pickle that are not allow-listed; run none of its code.

    Args:
        path: the checkpoint.
        error: the error of torch.load. It contains one such name. This name is returned if torch
            cannot list all names (before torch 2.6, or for files in the format before zip).
    """
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:
        named = re.search(r"GLOBAL (\S+) (?:was not|whose module)", str(error))
        return [named.group(1)] if named else []


def explain_unreadable(path: str, error: Exception) -> UserError:
    """Return a one-line error for a checkpoint that cannot be read: foreign contents or damage."""
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
    """Return the name of the first part of a checkpoint that does not match its checksum.

    torch.load does not read the checksums of its zip files, so it does not notice a flipped bit in
    a weight. Files in the format that preceded zip (torch < 1.6) have no checksums.

    Returns:
        None if no part is damaged, or if the file has no checksums.
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
                f"{path} is damaged: its part {damaged} does not match its checksum; replace it"
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
    """Make fairseq report errors of its own loading (--restore-file, --path, …) in one line.

    Without this patch, fairseq shows torch's message, which has many lines and no file name. All of
    fairseq calls ``load_checkpoint_to_cpu`` through its module. One replacement in the module
    therefore serves the trainer, fairseq-generate and this package.
    """
    if not hasattr(checkpoint_utils.load_checkpoint_to_cpu, "explains_errors"):
        checkpoint_utils.load_checkpoint_to_cpu = _one_line_errors(
            checkpoint_utils.load_checkpoint_to_cpu
        )


def shape_flags(theirs: Any, ours: Any) -> str:
    """Return the flags that give a model the shape of another model.

    Args:
        theirs: the other model's configuration, as in its checkpoint.
        ours: this model's configuration.

    Returns:
        `` --name value`` for each option that decides the weights and differs between the models;
        an empty string if there is no such option. A switch that is on only in this model is left
        out, because fairseq has no flag to switch it off.
    """
    # fairseq-train keeps a Namespace, fairseq-hydra-train a DictConfig.
    wanted, found = (
        vars(cfg) if isinstance(cfg, Namespace) else dict(cfg) for cfg in (theirs, ours)
    )
    flags = []
    for name in sorted(wanted.keys() & found.keys()):
        value = wanted[name]
        if not _SHAPES_WEIGHTS.search(name) or value == found[name] or value in (None, False):
            continue
        flag = f"--{name.replace('_', '-')}"
        flags.append(flag if value is True else f"{flag} {value}")
    return " ".join(flags)


def _names_the_flags(load_checkpoint: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load_checkpoint)
    def with_flags(self: Trainer, filename: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return load_checkpoint(self, filename, *args, **kwargs)
        except UserError:
            raise
        except Exception as error:
            if "ensure that the architectures match" not in str(error):
                raise
            raise _other_shape(filename, self.cfg.model, error) from error

    with_flags.names_the_flags = True
    return with_flags


def _other_shape(filename: str, ours: Any, error: Exception) -> UserError:
    state = checkpoint_utils.load_checkpoint_to_cpu(filename)
    cfg = state.get("cfg") or convert_namespace_to_omegaconf(state["args"])
    arch = getattr(cfg.model, "arch", None) or cfg.model._name
    flags = shape_flags(cfg.model, ours)
    what = f"train with --arch {arch}{' ' if flags else ''}{flags}"
    if not flags:
        cause = str(error.__context__ or error).strip().splitlines()
        what += f" and its dictionaries ({cause[-1].strip()})"
    return UserError(f"the model in {filename} has another shape than this run's: {what}")


def explain_other_shapes() -> None:
    """Make fairseq name the flags that a model needs to fit a checkpoint.

    fairseq itself prints a page of weight names and "please ensure that the architectures match".
    """
    if not hasattr(Trainer.load_checkpoint, "names_the_flags"):
        Trainer.load_checkpoint = _names_the_flags(Trainer.load_checkpoint)
