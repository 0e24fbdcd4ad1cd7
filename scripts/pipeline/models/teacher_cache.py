"""Stages `cache.TEACHER`: store a teacher's answers to all sentence pairs, for its trainings.

For a text other than the references the stage is `cache.TEACHER.TEXT`.

The cache has its own stage, so that results are reproducible. Without the stage, the first of two
trainings would fill the cache, and the order of the trainings would change the last digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pipeline.engine import commands, files, state
from pipeline.engine.devices import Slot
from pipeline.engine.progress import bar, say
from pipeline.engine.stage import Stage, share_is_there
from pipeline.models import teacher_texts
from pipeline.models.settings import Pair
from pipeline.models.training import Training

# The stored answers depend on the settings of _SECTIONS, except _NO_INPUTS.
_SECTIONS = ("task.", "dataset.")
_NO_INPUTS = ("task._name", "task.data", "task.eval", "task.teacher_path", "task.teacher_cache=")
# A line of tqdm: the dataset, the number of finished pairs, and the number of all pairs.
_PROGRESS = re.compile(r"(\S+):\s+\d+%\|.*\| (\d+)/(\d+) \[")


@dataclass(frozen=True)
class TeacherCache:
    """The answers of one teacher.

    Attributes:
        teacher: the teacher's training, or an ensemble, as `reader` names it.
        reader: a training that reads the answers; its config sets their precision and batches.
    """

    teacher: str
    reader: Training

    @property
    def name(self) -> str:
        """The name of the stage."""
        return self.reader.cache_stage

    def stage(self, pair: Pair) -> Stage:
        """Return the stage that fills the cache."""
        folder = self.reader.cache_folder(pair)
        return Stage(
            self.name,
            lambda slot: self.run(pair, slot),
            lambda slot: self.inputs(pair),
            needs=("binarize", *self._texts, *self.reader.teachers),
            clear=lambda: files.remove(folder),
            begun=folder.exists,
            cheap=True,
            share=lambda slot, share: self.run_share(pair, slot, share),
        )

    @property
    def _texts(self) -> tuple[str, ...]:
        """The stage of the answered text; empty if that stage is `binarize`."""
        text = self.reader.training_text
        return () if text.plain else (teacher_texts.stage_name(text),)

    def inputs(self, pair: Pair) -> dict[str, Any]:
        """Return what the answers depend on."""
        settings = self.reader.resolved(pair)
        kept = {
            key: value
            for key, value in settings.items()
            if key.startswith(_SECTIONS) and not f"{key}=".startswith(_NO_INPUTS)
        }
        return {
            **kept,
            "teacher": files.sha256_of(map(pair.files.best_checkpoint, self.reader.teachers)),
            **{
                f"from {stage}": state.fingerprint(pair.files.run_dir, stage)
                for stage in ("binarize", *self._texts)
            },
        }

    def run(self, pair: Pair, slot: Slot) -> dict[str, Any]:
        """Fill the cache, or continue an interrupted run.

        Raises:
            PipelineError: the command failed.
        """
        self._fill(pair, slot, (1, 1))
        return {}

    def run_share(self, pair: Pair, slot: Slot, share: tuple[int, int]) -> None:
        """Fill one of several shares; other processes may fill other shares at the same time.

        Args:
            pair: the language pair.
            slot: the part of this machine that the command may use.
            share: the number of the share, from 1, and the number of shares.

        Raises:
            PipelineError: see `run` and `Stage.execute`.
        """
        with state.one_at_a_time(pair.files.run_dir):
            if not self.stage(pair).begin(pair.files, slot):
                say(f"{self.name}: done already")
                return
        self._fill(pair, slot, share)
        say(f"{self.name}: {share_is_there(share)}")

    def _fill(self, pair: Pair, slot: Slot, share: tuple[int, int]) -> None:
        command = [*commands.fairseq_module("ka_fairseq.cache"), "build"]
        command += ["--shard", "{}/{}".format(*share)]
        folder = {"hydra.run.dir": str(pair.files.model_dir(self.teacher))}
        command += self.reader.arguments(pair, slot, folder)
        answered: dict[str, int] = {}
        stage = self.name if share == (1, 1) else "{}.{}-of-{}".format(self.name, *share)
        total = (self._pairs(pair) if share == (1, 1) else 0) or None
        with bar(title=stage, total=total, unit=" pairs") as progress:

            def on_line(line: str) -> None:
                if found := _PROGRESS.search(line):
                    answered[found[1]] = int(found[2])
                    progress.update(sum(answered.values()) - progress.n)

            commands.run(command, pair.files.log(stage), on_line, slot=slot)

    def _pairs(self, pair: Pair) -> int:
        """Return the number of pairs to answer, as far as is known."""
        record = state.read(pair.files.run_dir, "prepare")
        pairs = dict(record.facts.get("pairs", {})) if record is not None else {}
        for stage in self._texts:
            if (record := state.read(pair.files.run_dir, stage)) is not None:
                pairs["train"] = record.facts.get("pairs", 0)
        return pairs.get("train", 0) + pairs.get("valid", 0)
