"""Stage `binarize`: subwords, a joint dictionary, and fairseq's binary files in ``bin/``."""

from __future__ import annotations

from typing import Any

from pipeline import commands, files, parallel, segmentation, state
from pipeline.corpus import SPLITS
from pipeline.settings import USER_DIR, Pair


def inputs(pair: Pair) -> dict[str, Any]:
    """Return what the binary files depend on."""
    settings = {f"segmentation.{key}": value for key, value in pair.segmentation.items()}
    return {**settings, "from prepare": state.fingerprint(pair.run_dir, "prepare")}


def run(pair: Pair) -> dict[str, Any]:
    """Segment the text and binarize it.

    Raises:
        PipelineError: the segmentation or fairseq-preprocess failed.
    """
    with files.written_whole(pair.bin_dir) as folder:
        segmented = folder / "segmented"
        segmented.mkdir(parents=True)
        text = {language: pair.text_dir / f"train.{language}" for language in pair.languages}
        segmentation.train(text, folder, pair.segmentation)
        for split in SPLITS:
            for language in pair.languages:
                name = f"{split}.{language}"
                source, target = pair.text_dir / name, segmented / name
                segmentation.encode(folder, language, pair.segmentation, source, target)
        command = commands.python_module("fairseq_cli.preprocess")
        command += ["--source-lang", pair.source_lang, "--target-lang", pair.target_lang]
        # Relative to the folder: fairseq-preprocess splits the paths of its text at commas.
        for split in SPLITS:
            command += [f"--{split}pref", f"segmented/{split}"]
        command += ["--joined-dictionary", "--destdir", "."]
        # With this package, as several workers write no index beyond 2 GiB under numpy 2 alone.
        command += ["--workers", str(parallel.cores()), "--user-dir", str(USER_DIR)]
        commands.run(command, pair.log("binarize"), folder=folder)
    return {}
