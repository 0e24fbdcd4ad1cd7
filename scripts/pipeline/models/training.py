"""The training stages: each runs ``fairseq-hydra-train`` with the config of its model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.engine import commands, files, state
from pipeline.engine.devices import Devices, Slot
from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import bar, say
from pipeline.engine.stage import Stage
from pipeline.models import (
    exporting,
    hydra_configs,
    methods,
    pretrained_teacher,
    students,
    teacher_texts,
    training_log,
)
from pipeline.models.model_list import Model
from pipeline.models.settings import USER_DIR, Pair

CACHE = "cache"
"""The kind of the stages that fill a teacher's cache."""

# Settings that the pipeline sets itself, or that do not change the trained model.
_NO_INPUTS = (
    "hydra.",
    "common.user_dir",
    "common.log_",
    "task.data",
    "task.teacher_path",
    "checkpoint.save_dir",
    "checkpoint.finetune_from_model",
)
_FP16 = ("common.fp16", "common.memory_efficient_fp16")


class Training(Model):
    """A model and its training."""

    @classmethod
    def of(cls, model: Model) -> Training:
        """Return the training of a model."""
        return cls(**vars(model))

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages that the model depends on. The stage also needs a filled cache."""
        text = self.training_text
        texts = () if text.plain else (teacher_texts.stage_name(text),)
        return ("binarize", *texts, *((self.start,) if self.start else ()), *self.teachers)

    def stage(self, pair: Pair) -> Stage:
        """Return the stage that trains the model."""
        filled = (self.cache_stage,) if self.cached(pair) else ()
        return Stage(
            self.name,
            lambda slot: self.run(pair, slot),
            lambda slot: self.inputs(pair, slot),
            needs=(*self.needs, *filled),
            clear=lambda: self.clear(pair),
            begun=lambda: self.begun(pair),
        )

    def inputs(self, pair: Pair, slot: Slot) -> dict[str, Any]:
        """Return what the model depends on."""
        if given := self._given(pair):
            return pretrained_teacher.inputs(pair, given)
        settings = self.resolved(pair)
        if (batches := Devices.choose(settings, visible=slot.visible).batches) > 1:
            settings["optimization.update_freq"] = [batches]
        kept = {key: value for key, value in settings.items() if not key.startswith(_NO_INPUTS)}
        # The precision here: a training begun on a CPU does not continue in half precision.
        kept |= self._without_fp16(pair, slot)
        # The path of the cache does not matter. Whether there is a cache changes the last digits.
        kept["task.teacher_cache"] = self.cached(pair)
        # The start's path is left out above; its name counts.
        kept["checkpoint.finetune_from_model"] = self.start
        upstream = {
            f"from {need}": state.fingerprint(pair.files.run_dir, need) for need in self.needs
        }
        return {**kept, **upstream}

    def run(self, pair: Pair, slot: Slot) -> dict[str, Any]:
        """Train, or continue an interrupted training.

        Raises:
            PipelineError: fairseq-hydra-train failed, or `pair.yaml` names a teacher that does not
                fit.
        """
        if given := self._given(pair):
            return pretrained_teacher.install(pair, given)
        settings = self.resolved(pair)
        devices = Devices.choose(settings, visible=slot.visible)
        log = pair.files.log(self.name)
        # The checkpoint is complete or absent: ka_fairseq.hardening makes fairseq write it so.
        begun = pair.files.last_checkpoint(self.name).exists()
        if begun:
            say(f"{self.name}: going on from its last checkpoint")
        command = self._program(devices.launcher)
        command += self.arguments(pair, slot, devices.overrides())
        with Progress(self.name, settings) as progress:
            commands.run(command, log, progress.on_line, append=begun, slot=slot)
        best = pair.files.best_checkpoint(self.name)
        if not best.exists():
            raise PipelineError("no checkpoint was written: is max_epoch or max_update too small?")
        exporting.export(best, pair.files.model(self.name))
        seconds = training_log.by_epoch(training_log.read(log), "train_train_wall")
        return {
            "parameters": training_log.parameters(log),
            "train_seconds": sum(seconds.values()),
            "threads": slot.threads,
        }

    @staticmethod
    def _program(launcher: Sequence[str]) -> list[str]:
        """Return the program that trains.

        A launcher's workers start with this package, which lets them train together on CPUs, too.
        The package is this checkout's, even if the current folder has another one.
        """
        if not launcher:
            return commands.fairseq_module("fairseq_cli.hydra_train")
        module = commands.fairseq_module("ka_fairseq.hydra_train")
        return [*launcher, "env", "PYTHONSAFEPATH=1", *module]

    def arguments(self, pair: Pair, slot: Slot, more: Mapping[str, Any] | None = None) -> list[str]:
        """Return the arguments of fairseq-hydra-train.

        Args:
            pair: the language pair; its paths and languages replace the config's.
            slot: the part of this machine that the command may use.
            more: further settings.
        """
        # The pipeline's own paths come last: settings may switch a cache on, not move it.
        overrides = {**(more or {}), **self._varied(pair), **self._overrides(pair, slot)}
        config = self._method(pair).config
        written = hydra_configs.resolve(pair.files.hydra_dir, config, {})
        words = ["--config-dir", str(pair.files.hydra_dir), "--config-name", config]
        return words + hydra_configs.forced(overrides, written)

    def begun(self, pair: Pair) -> bool:
        """Return whether there is a checkpoint to continue from."""
        return any(pair.files.model_dir(self.name).glob("checkpoint*.pt"))

    def clear(self, pair: Pair) -> None:
        """Remove all that the training wrote. A teacher's cache is in the same folder."""
        # The state goes first: after a kill between the two, the cache is looked at again.
        state.forget_group(pair.files.run_dir, f"{CACHE}.{self.name}")
        files.remove(pair.files.model_dir(self.name))
        files.remove(pair.files.log(self.name))

    def _given(self, pair: Pair) -> pretrained_teacher.GivenTeacher | None:
        """Return the trained teacher that `pair.yaml` gives instead of this training, or None."""
        return pretrained_teacher.of(pair) if self.name == pretrained_teacher.STAGE else None

    def _overrides(self, pair: Pair, slot: Slot) -> dict[str, Any]:
        folder = str(pair.files.model_dir(self.name))
        overrides: dict[str, Any] = {
            "hydra.run.dir": folder,
            "common.user_dir": str(USER_DIR),
            "task.data": str(teacher_texts.folder(pair, self.training_text)),
            "task.source_lang": pair.source_lang,
            "task.target_lang": pair.target_lang,
            "checkpoint.save_dir": folder,
        }
        # fairseq reads this file only if save_dir has no checkpoint_last.pt. A model without a
        # start is trained from scratch, even if its config names a file.
        start = str(pair.files.best_checkpoint(self.start)) if self.start else None
        overrides["checkpoint.finetune_from_model"] = start
        if self.teacher:
            paths = [str(pair.files.best_checkpoint(name)) for name in self.teachers]
            overrides["task.teacher_path"] = os.pathsep.join(paths)
            if self.cached(pair):
                overrides["task.teacher_cache"] = str(self.cache_folder(pair))
        return {**overrides, **self._without_fp16(pair, slot)}

    def _without_fp16(self, pair: Pair, slot: Slot) -> dict[str, Any]:
        """Return the settings that switch float16 off; empty if there is a GPU."""
        if slot.visible:
            return {}
        settings = self.resolved(pair)
        return {name: False for name in _FP16 if settings.get(name)}

    def cached(self, pair: Pair) -> bool:
        """Return whether the training reads the teacher's answers from a cache."""
        try:
            return bool(self.teacher and self.resolved(pair).get("task.teacher_cache"))
        except PipelineError:  # a missing or invalid config: an error only if the training runs
            return False

    @property
    def cache_stage(self) -> str:
        """The name of the stage that fills the cache."""
        text = self.training_text
        return f"{CACHE}.{self.teacher}" + ("" if text.plain else f".{text.name}")

    def cache_folder(self, pair: Pair) -> Path:
        """Return the folder of the teacher's answers for the training text."""
        text = self.training_text
        return pair.files.teacher_cache(str(self.teacher), "" if text.plain else text.name)

    def resolved(self, pair: Pair) -> dict[str, Any]:
        """Return all settings of the config, the list of models and the pair, by dotted keys."""
        config = self._method(pair).config
        return hydra_configs.resolve(pair.files.hydra_dir, config, self._varied(pair))

    def _method(self, pair: Pair) -> methods.Method:
        return methods.find(self.config, pair.files.hydra_dir)

    def _varied(self, pair: Pair) -> dict[str, Any]:
        """Return the changes to the config: of the method, the pair, and last the model's own."""
        method = self._method(pair).settings
        finetuning = pair.finetuning if self.start else {}
        return {**method, **pair.training, **finetuning, **self._shape(pair), **self.settings}

    def _shape(self, pair: Pair) -> dict[str, Any]:
        """Return the shape of a model that takes over some layers, or starts from such a model.

        For other models the result is empty: their configs have their shape.

        fairseq leaves out the other layers when it loads the start's checkpoint. The kept layers
        are the first ones. So a resumed training finds all of its layers: fairseq treats its own
        checkpoint in the same way.

        Raises:
            PipelineError: the start has fewer layers.
        """
        if not self.start:
            return {}
        name = self.start.rpartition("/")[2]  # in a comparison the seed comes before the name
        [start] = [model for model in pair.models if model.name == name]
        if self.student not in (None, start.student):  # in a comparison of several sizes
            start = students.resized(start, self.student, pair.files.config_dir)
        if not self.layers:
            return Training.of(start)._shape(pair)
        given = Training.of(start).resolved(pair)
        shape = {
            key: value
            for key, value in given.items()
            if key.startswith("model.") and not key.endswith("dropout")
        }
        for side, count in self.layers.items():
            there = int(given[f"model.{side}_layers"])
            if count > there:
                raise PipelineError(
                    f"models.{self.name}.layers.{side}: {count}, but {name} has {there}"
                )
            shape[f"model.{side}_layers"] = count
            shape[f"model.{side}_layers_to_keep"] = ",".join(map(str, range(count)))
        return shape


class Progress:
    """One bar for a whole training, driven by fairseq's records."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        epochs = settings.get("optimization.max_epoch")
        updates = settings.get("optimization.max_update")
        self._by_updates = bool(updates)
        self._bar = bar(
            title=name,
            total=updates or epochs,
            miniters=0,  # redrawn by time alone
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.4g}/{total:g} "
            + ("updates" if updates else "epochs")
            + " [{elapsed}<{remaining}{postfix}]",
        )
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def on_line(self, line: str) -> None:
        """Move the bar if a line of the log has a record."""
        record = training_log.parse(line)
        if record is None:
            return
        if "loss" in record:
            self._shown["loss"] = record["loss"]
            done = float(record["num_updates"] if self._by_updates else record["update"])
        elif "valid_bleu" in record:
            self._shown["valid BLEU"] = record["valid_bleu"]
            done = float(record["valid_num_updates"] if self._by_updates else record["epoch"])
        else:
            return
        if not self._bar.n:
            self._bar.initial = done  # a resumed training: estimate the time from here on
        self._bar.set_postfix(self._shown, refresh=False)
        self._bar.update(min(done, self._bar.total or done) - self._bar.n)
