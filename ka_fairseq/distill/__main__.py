"""``python -m ka_fairseq.distill``: write a data-bin with a teacher's translations."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from fairseq import utils
from omegaconf import open_dict

import ka_fairseq  # noqa: F401  checkpoints of this package name its task and criterions
from ka_fairseq.distill import databin, engines, options, translate, write
from ka_fairseq.distill.databin import DataBin
from ka_fairseq.distill.nearness import METRICS
from ka_fairseq.distill.options import Settings
from ka_fairseq.distill.telling import tell
from ka_fairseq.distill.translations import Translations, made_of
from ka_fairseq.distill.write import Choice, Part
from ka_fairseq.errors import UserError
from ka_fairseq.teacher.cache.share import ALL


def main(argv: Sequence[str] | None = None) -> None:
    """Parse a command line and run the distillation."""
    logging.getLogger().setLevel(logging.WARNING)
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        run(options.parse(argv), argv)
    except OSError as error:
        raise UserError(
            f"{error.filename or 'the disk'}: {error.strerror or error}; correct that and run the "
            "same command again: finished files are kept"
        ) from error


def run(settings: Settings, argv: Sequence[str]) -> None:
    """Translate the missing shards, choose translations, and write the data-bin.

    Args:
        settings: the command line.
        argv: the words of the command line, for the record.

    Raises:
        UserError: an input is wrong in a way that the user can correct.
    """
    own = settings.own
    folder = Path(own.translations or Path(own.destdir) / "translations")
    teachers = _teachers(settings.cfg.common_eval.path)
    data = _load(settings, folder)
    if own.destdir is not None:
        write.check_destination(Path(own.destdir), data)
    translations = Translations.begin(folder, data.texts, _made_of(settings, data, teachers))
    if own.merge:
        _check_whole(translations)
    else:
        _translate(settings, translations, data, teachers)
    if own.shard:
        if settings.share != ALL:
            tell(f"share {settings.share} is done; when all are, run the command with --merge")
        return
    _write(settings, translations, data, teachers, argv)


def _load(settings: Settings, folder: Path) -> DataBin:
    cfg = settings.cfg
    with open_dict(cfg):
        cfg.task.train_subset = cfg.dataset.train_subset
    data = databin.load(cfg.task, cfg.dataset.gen_subset)
    if settings.own.mono is None:
        return data
    mono = databin.monolingual(data, Path(settings.own.mono), folder)
    return DataBin(data.task, (*data.texts, mono))


def _teachers(paths: str) -> list[Path]:
    found = [Path(path) for path in utils.split_paths(paths)]
    if missing := [path for path in found if not path.is_file()]:
        raise UserError(f"no checkpoint at {missing[0]}: check --path")
    return found


def _made_of(settings: Settings, data: DataBin, teachers: list[Path]) -> dict[str, Any]:
    own = settings.own
    how = {"engine": own.engine, "quantization": own.quantization}
    how["model_overrides"] = settings.cfg.common_eval.model_overrides
    return made_of(data, teachers, {**settings.search.record, **how}, own.per_file)


def _translate(
    settings: Settings, translations: Translations, data: DataBin, teachers: list[Path]
) -> None:
    own = settings.own

    def engine(scratch: Path) -> engines.Engine:
        return engines.choose(
            *(own.engine, teachers, data, settings.search, settings.cfg, scratch),
            quantization=own.quantization,
            threads=own.threads,
        )

    translate.translate(translations, data, settings.search, settings.share, engine)


def _check_whole(translations: Translations) -> None:
    missing = translations.missing(ALL)
    if missing:
        raise UserError(
            f"{len(missing)} files of translations are missing, the first is "
            f"{missing[0][1].path}: wait until all shares are done, or leave --merge out"
        )


def _write(
    settings: Settings,
    translations: Translations,
    data: DataBin,
    teachers: list[Path],
    argv: Sequence[str],
) -> None:
    own, how = settings.own, settings.cfg.common_eval.post_process
    record = {
        "translations": translations.made_of,
        "choose": dict(settings.choose),
        "metric": own.metric,
        "words": how,
        "references": own.keep_references,
        "filters": vars(settings.filters),
        "versions": versions(),
    }
    destdir = Path(own.destdir)
    if write.done(destdir, record):
        tell(f"{destdir}: done already")
        return
    of = "words" if how else "subwords (--remove-bpe or --sentencepiece joins them to words)"
    tell(f"choosing by {own.metric} of {of}")
    references = [Part(write.REFERENCES, own.keep_references)] if own.keep_references else []
    parts = [Part(name, times, translations) for name, times in settings.choose]
    choice = Choice(METRICS[own.metric], settings.filters, how)
    about = {"command": [options.PROGRAM, *argv], "teacher": [str(path) for path in teachers]}
    told = write.write(data, [*references, *parts], choice, destdir, {**about, **record})
    for name, counts in told["kept"].items():
        tell(f"{name}: {counts['kept']} kept, {write.listed(counts)}")
    tell(f"{destdir}: {told['pairs']} sentence pairs")


def versions() -> dict[str, str]:
    """Return the versions of the packages that affect the translations."""
    found = {}
    for name in ("ka-fairseq", "ve-fairseq", "fairseq", "torch", "ctranslate2", "fastchrf"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
