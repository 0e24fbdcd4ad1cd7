"""Run `ka_fairseq.distill` on a pair, and open the pair's data-bins in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engine import commands
from pipeline.engine.devices import Slot
from pipeline.models import plugin
from pipeline.models.hydra_configs import ONE_AT_A_TIME
from pipeline.models.settings import REPOSITORY, USER_DIR, Pair
from pipeline.models.translate_settings import FAIRSEQ, Recipe

if TYPE_CHECKING:
    from ka_fairseq.distill.databin import DataBin

RECORD = "translations.json"
"""The record file in a folder of translations."""
MONO_IDS = "mono.ids"
"""The prefix of the files, in this folder, with the token ids of monolingual text."""
TOLD = "distill: "
"""The beginning of each line that the command prints for its user."""


def data_bin(pair: Pair, mono: Path | None) -> DataBin:
    """Load the data-bin that `binarize` made.

    Args:
        pair: the language pair.
        mono: monolingual text to add, or None: a file of subwords, or the prefix of token ids.

    Raises:
        PipelineError: the data-bin or the text is damaged.
    """
    with plugin.user_errors(), ONE_AT_A_TIME:
        from ka_fairseq.distill import databin

        data = databin.load(databin.config(pair.files.bin_dir, *pair.languages), databin.TRAIN)
        if mono is None:
            return data
        text = databin.monolingual(data, mono, mono.parent)
        return databin.DataBin(data.task, (*data.texts, text))


def command(
    pair: Pair,
    slot: Slot,
    data: Path,
    models: Sequence[Path],
    recipe: Recipe,
    translations: Path,
    share: tuple[int, int],
    *more: str,
    sampled: bool = False,
) -> list[str]:
    """Return the command line that translates, without writing a data-bin.

    Args:
        pair: the language pair.
        slot: the part of this machine that the command may use.
        data: the data-bin.
        models: fairseq's checkpoints; several translate as an ensemble.
        recipe: how to translate.
        translations: the folder to write.
        share: the number of the share, from 1, and the number of shares.
        more: further words of the command line.
        sampled: draw samples instead of searching the n best.
    """
    options = {
        "path": ":".join(map(str, models)),
        "user-dir": USER_DIR,
        "source-lang": pair.source_lang,
        "target-lang": pair.target_lang,
        "translations": translations,
        "shard": "{}/{}".format(*share),
        "threads": slot.threads or 0,
        "engine": "fairseq" if recipe.engine == FAIRSEQ else recipe.engine,
        "quantization": recipe.quantization,
        "max-len-a": recipe.max_len_a,
        "max-len-b": recipe.max_len_b,
        "longest-source": recipe.max_length,
        "max-tokens": recipe.max_tokens,
        "per-file": recipe.shard,
        **(_sampling(recipe) if sampled else _search(recipe)),
    }
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    words += ["--sampling"] if sampled else []
    return [*commands.fairseq_module("ka_fairseq.distill"), str(data), *words, *more]


def run(
    slot: Slot,
    words: list[str],
    log: Path,
    on_line: Callable[[str], None] = lambda line: None,
    *,
    append: bool = False,
) -> None:
    """Run a command line that `command` made; see `commands.run`.

    The command runs in the checkout's folder. There Python finds the package that ``--user-dir``
    names.
    """
    commands.run(words, log, on_line, append=append, folder=REPOSITORY, slot=slot)


def _search(recipe: Recipe) -> dict[str, object]:
    return {"beam": recipe.beam, "n-best": recipe.n_best, "lenpen": recipe.lenpen}


def _sampling(recipe: Recipe) -> dict[str, object]:
    draw = recipe.sampling
    found = {"beam": draw.samples, "temperature": draw.temperature, "seed": draw.seed}
    return found | ({"sampling-topp": draw.top_p} if draw.top_p < 1 else {})
