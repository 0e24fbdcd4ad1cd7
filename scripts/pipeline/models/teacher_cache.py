"""Stages `cache.TEACHER`: a teacher answers all sentence pairs, for the trainings that it teaches.

Of a text that is not the references, `cache.TEACHER.TEXT`.

A stage of its own, as which of two trainings was the first to ask would decide the last digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pipeline.engine import commands, files, state
from pipeline.engine.progress import bar, say
from pipeline.engine.stage import Stage, share_is_there
from pipeline.models import teacher_texts
from pipeline.models.settings import Pair
from pipeline.models.training import Training

# What the stored answers do not depend on, of the sections that they do depend on.
_SECTIONS = ("task.", "dataset.")
_NO_INPUTS = ("task._name", "task.data", "task.eval", "task.teacher_path", "task.teacher_cache=")
# Of tqdm: the dataset, how many pairs are done and how many there are.
_PROGRESS = re.compile(r"(\S+):\s+\d+%\|.*\| (\d+)/(\d+) \[")


@dataclass(frozen=True)
class TeacherCache:
    """The answers of one teacher.

    Attributes:
        teacher: the training whose model it is, or several, as `reader` names them.
        reader: a training that reads them, whose config says in which precision and batches.
    """

    teacher: str
    reader: Training

    @property
    def name(self) -> str:
        """Of the stage."""
        return name(self.reader)

    @property
    def stage(self) -> Stage:
        """The stage that has the teacher answer."""
        return Stage(
            self.name,
            self.run,
            self.inputs,
            needs=("binarize", *self._texts, *self.reader.teachers),
            clear=lambda pair: files.remove(self.reader.cache_folder(pair)),
            begun=lambda pair: self.reader.cache_folder(pair).exists(),
            cheap=True,
        )

    @property
    def _texts(self) -> tuple[str, ...]:
        """The stage of the text that is answered, where it is not `binarize`."""
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
            "teacher": files.sha256_of(map(pair.best_checkpoint, self.reader.teachers)),
            **{
                f"from {stage}": state.fingerprint(pair.run_dir, stage)
                for stage in ("binarize", *self._texts)
            },
        }

    def run(self, pair: Pair) -> dict[str, Any]:
        """Fill the cache, or go on with what was cut off.

        Raises:
            PipelineError: the command failed.
        """
        self._fill(pair, (1, 1))
        return {}

    def run_share(self, pair: Pair, share: tuple[int, int]) -> None:
        """Fill one of several shares; others may be at work beside it.

        Args:
            pair: whose text it is.
            share: which, from 1, and of how many.

        Raises:
            PipelineError: as `run`, or as `Stage.execute`.
        """
        with state.one_at_a_time(pair.run_dir):
            if not self.stage.begin(pair):
                say(f"{self.name}: done already")
                return
        self._fill(pair, share)
        say(f"{self.name}: {share_is_there(share)}")

    def _fill(self, pair: Pair, share: tuple[int, int]) -> None:
        command = [*commands.fairseq_module("ka_fairseq.cache"), "build"]
        command += ["--shard", "{}/{}".format(*share)]
        folder = {"hydra.run.dir": str(pair.model_dir(self.teacher))}
        command += self.reader.arguments(pair, folder)
        answered: dict[str, int] = {}
        stage = self.name if share == (1, 1) else "{}.{}-of-{}".format(self.name, *share)
        total = (self._pairs(pair) if share == (1, 1) else 0) or None
        with bar(title=stage, total=total, unit=" pairs") as progress:

            def on_line(line: str) -> None:
                if found := _PROGRESS.search(line):
                    answered[found[1]] = int(found[2])
                    progress.update(sum(answered.values()) - progress.n)

            commands.run(command, pair.log(stage), on_line, slot=pair.slot)

    def _pairs(self, pair: Pair) -> int:
        """How many there are to answer, as far as is known."""
        record = state.read(pair.run_dir, "prepare")
        pairs = dict(record.facts.get("pairs", {})) if record is not None else {}
        for stage in self._texts:
            if (record := state.read(pair.run_dir, stage)) is not None:
                pairs["train"] = record.facts.get("pairs", 0)
        return pairs.get("train", 0) + pairs.get("valid", 0)


def name(reader: Training) -> str:
    """Return the name of the stage that fills the cache which a training reads."""
    text = reader.training_text
    return f"cache.{reader.teacher}" + ("" if text.plain else f".{text.name}")
