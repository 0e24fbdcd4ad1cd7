"""Measure the memory of ``python -m ka_fairseq.distill`` for a small and a large text.

    python examples/distill_memory.py DATA TEACHER 20000 200000 [-- OPTIONS OF THE COMMAND]

For each number of pairs, the training split of DATA is repeated to that size and distilled. The
script prints the largest resident set of the command's process. Of a memory-mapped file, only the
parts that the process read count.
"""

from __future__ import annotations

import itertools
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fairseq.data import indexed_dataset

from ka_fairseq.distill import databin
from ka_fairseq.export.dictionaries import find_languages


def repeated(data: databin.DataBin, folder: Path, pairs: int) -> None:
    """Write a data-bin with a given number of pairs by repeating those of another data-bin."""
    folder.mkdir()
    for path in data.dictionary_files:
        shutil.copy(path, folder)
    (text,) = data.texts
    source, target = data.languages
    sides = zip((source, target), (text.sources, text.references), data.dictionaries, strict=True)
    for language, sentences, dictionary in sides:
        prefix = folder / f"train.{source}-{target}.{language}"
        builder = indexed_dataset.make_builder(f"{prefix}.bin", "mmap", len(dictionary))
        for line in itertools.islice(itertools.cycle(range(len(text))), pairs):
            builder.add_item(sentences[line])
        builder.finalize(f"{prefix}.idx")


def main() -> None:
    """Measure each size, the smallest first: the system reports the largest process so far."""
    words, options = _split(sys.argv[1:])
    folder, teacher, *sizes = words
    data = databin.load(
        databin.config(Path(folder), *find_languages(Path(folder), None, None)), "train"
    )
    for pairs in sorted(map(int, sizes)):
        with tempfile.TemporaryDirectory(prefix="distill-memory-") as scratch:
            repeated(data, Path(scratch) / "data", pairs)
            command = [sys.executable, "-m", "ka_fairseq.distill", f"{scratch}/data"]
            command += ["--path", teacher, "--destdir", f"{scratch}/out", "--keep-duplicates"]
            subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
        kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        print(f"{pairs} pairs: {kilobytes / 1000:.0f} MB", flush=True)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words before ``--`` and the words after it."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


if __name__ == "__main__":
    main()
