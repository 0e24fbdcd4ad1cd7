"""Stage `binarize`: write subwords, a joint dictionary and fairseq's binary files to ``bin/``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.engine import commands, files, parallel, state
from pipeline.engine.errors import PipelineError
from pipeline.engine.stage import Stage
from pipeline.models import pretrained_teacher
from pipeline.models.settings import USER_DIR, Pair
from pipeline.text import segmentation
from pipeline.text.corpus import SPLITS

# The share of a file's subwords, in percent, that a given teacher may not know. Rare signs stay
# below the limit; another alphabet does not.
MOST_UNKNOWN = 5
_REPLACED = re.compile(r"segmented/(?P<file>\S+): .* tokens, (?P<percent>[\d.e-]+)% replaced")


def stage(pair: Pair) -> Stage:
    """Return the stage."""
    return Stage(
        "binarize",
        lambda slot: run(pair),
        lambda slot: inputs(pair),
        needs=("prepare",),
        clear=lambda: files.remove(pair.files.bin_dir),
    )


def inputs(pair: Pair) -> dict[str, Any]:
    """Return the settings and fingerprints that the binary files depend on."""
    used = pair.segmentation
    given = pretrained_teacher.of(pair)
    if given is not None:  # settings for the training of a segmentation do not matter
        used = {key: value for key, value in used.items() if key in segmentation.USED}
    settings = {f"segmentation.{key}": value for key, value in used.items()}
    if given is not None:
        settings |= given.text_inputs
    return {**settings, "from prepare": state.fingerprint(pair.files.run_dir, "prepare")}


def run(pair: Pair) -> dict[str, Any]:
    """Segment the text and binarize it.

    Raises:
        PipelineError: the segmentation or fairseq-preprocess failed. Or the given teacher does
            not know the subwords of the text.
    """
    given = pretrained_teacher.of(pair)
    unknown = _Unknown()
    with files.written_whole(pair.files.bin_dir) as folder:
        segmented = folder / "segmented"
        segmented.mkdir(parents=True)
        text = {language: pair.files.text_dir / f"train.{language}" for language in pair.languages}
        if given is None:
            segmentation.train(text, folder, pair.segmentation)
        else:
            pretrained_teacher.adopt_segmentation(pair, given, folder)
        for split in SPLITS:
            for language in pair.languages:
                name = f"{split}.{language}"
                source, target = pair.files.text_dir / name, segmented / name
                segmentation.encode(folder, language, pair.segmentation, source, target)
        # The paths are relative to the folder: fairseq-preprocess splits paths at commas.
        more = [word for split in SPLITS for word in (f"--{split}pref", f"segmented/{split}")]
        more += given.preprocess_arguments if given else ["--joined-dictionary"]
        preprocess(pair, folder, more, pair.files.log("binarize"), unknown.on_line)
        if given is not None and unknown.percent > MOST_UNKNOWN:
            raise PipelineError(
                f"{unknown.percent:.1f} % of the subwords in {unknown.file} are not in the "
                "dictionary of the teacher: check that teacher.segmentation and "
                "teacher.dictionary in pair.yaml belong together, and fit this text"
            )
    return {"unknown_percent": unknown.percent}


def preprocess(
    pair: Pair,
    folder: Path,
    more: Sequence[str],
    log: Path,
    on_line: Callable[[str], None] = lambda line: None,
) -> None:
    """Run fairseq-preprocess.

    Args:
        pair: the pair with the languages.
        folder: the working and output folder.
        more: the options for text and dictionaries.
        log: the file for the output.
        on_line: called with each line of the output.

    Raises:
        PipelineError: fairseq-preprocess failed.
    """
    command = commands.fairseq_module("fairseq_cli.preprocess")
    command += ["--source-lang", pair.source_lang, "--target-lang", pair.target_lang]
    command += [*more, "--destdir", "."]
    # With this package, as numpy 2 alone breaks the index of several workers beyond 2 GiB.
    command += ["--workers", str(parallel.cores()), "--user-dir", str(USER_DIR)]
    commands.run(command, log, on_line, folder=folder)


class _Unknown:
    """The largest share of unknown subwords that fairseq-preprocess reports."""

    percent = 0.0
    file = ""

    def on_line(self, line: str) -> None:
        """Read a line of the output."""
        found = _REPLACED.search(line)
        if found and float(found["percent"]) > self.percent:
            self.percent, self.file = float(found["percent"]), found["file"]
