"""The test sets: the first, which `prepare` makes with the training text, and further sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.engine import files, state
from pipeline.engine.stage import Stage
from pipeline.models.settings import Pair
from pipeline.text import binarize, prepare, segmentation


@dataclass(frozen=True)
class EvaluationSet:
    """A test set. Further test sets have separate stages, so models need no new training.

    Attributes:
        name: the name in tables, and the name of the files for a user's own corpus. None is the
            pair's first test set, which is made with the training text.
    """

    name: str | None = None

    def folder(self, pair: Pair) -> Path:
        """Return the folder of the text, the binary files and the translations."""
        return pair.files.run_dir / "tests" / self.name if self.name else pair.files.run_dir

    def text_dir(self, pair: Pair) -> Path:
        """Return the folder of the plain text."""
        return self.folder(pair) / pair.files.text_dir.name

    def reference(self, pair: Pair) -> Path:
        """Return the file of the target side, untokenized."""
        return self.text_dir(pair) / pair.reference.name

    def source(self, pair: Pair) -> Path:
        """Return the file of the source side, untokenized."""
        return self.text_dir(pair) / pair.source.name

    def bin_dir(self, pair: Pair) -> Path:
        """Return the data-bin for fairseq-generate, with the subset `test`."""
        return self.folder(pair) / pair.files.bin_dir.name

    def hypotheses(self, pair: Pair, model: str) -> Path:
        """Return the file of a model's translations."""
        return self.folder(pair) / pair.files.evaluate_dir.name / f"{model}.{pair.target_lang}"

    def title(self, pair: Pair) -> str:
        """Return the name in tables."""
        return self.name or pair.tests[0]

    @property
    def made_by(self) -> str:
        """The stage that makes the data-bin for fairseq-generate."""
        return f"test.{self.name}" if self.name else "binarize"

    def stage(self, pair: Pair) -> Stage:
        """Return the stage that makes a further test set."""
        return Stage(
            self.made_by,
            lambda slot: _make(pair, self),
            lambda slot: _inputs(pair, self),
            needs=("binarize",),
            cheap=True,
        )


MAIN = EvaluationSet()


def named(pair: Pair, name: str) -> EvaluationSet:
    """Return the test set of this name."""
    return MAIN if name == pair.tests[0] else EvaluationSet(name)


def _inputs(pair: Pair, which: EvaluationSet) -> dict[str, Any]:
    upstream = {"from binarize": state.fingerprint(pair.files.run_dir, "binarize")}
    return {**prepare.test_inputs(pair, str(which.name)), **upstream}


def _make(pair: Pair, which: EvaluationSet) -> dict[str, Any]:
    """Write a test set's text, segment it like the training text, and binarize it.

    Raises:
        PipelineError: see `prepare.write_test`; or fairseq-preprocess failed.
    """
    with files.written_whole(which.text_dir(pair)) as text:
        text.mkdir()
        count = prepare.write_test(pair, str(which.name), text)
    with files.written_whole(which.bin_dir(pair)) as folder:
        (folder / "segmented").mkdir(parents=True)
        for language in pair.languages:
            file = f"test.{language}"
            plain, segmented = which.text_dir(pair) / file, folder / "segmented" / file
            segmentation.encode(pair.files.bin_dir, language, pair.segmentation, plain, segmented)
        dictionaries = (pair.files.bin_dir / f"dict.{language}.txt" for language in pair.languages)
        source, target = (str(path.resolve()) for path in dictionaries)
        more = ["--testpref", "segmented/test", "--srcdict", source, "--tgtdict", target]
        binarize.preprocess(pair, folder, more, pair.files.log(which.made_by))
    return {"sentences": count}
