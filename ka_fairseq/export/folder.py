"""Write a folder that translates raw text on any machine: model, segmentation and translator."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ka_fairseq.errors import UserError
from ka_fairseq.export import ctranslate2_model
from ka_fairseq.export import segmentation as segmenting
from ka_fairseq.whole import written_whole

SETTINGS_FILE = "translate.json"
TRANSLATOR = Path(__file__).parents[1] / "translate.py"


def export_folder(
    checkpoint: Path,
    target: Path,
    *,
    dictionaries: tuple[Path, Path],
    segmentation: Mapping[str, Any],
    quantization: str = "int8",
    languages: tuple[str | None, str | None] = (None, None),
    beam: int = 6,
    lenpen: float = 1.0,
) -> None:
    """Write a folder that translates raw text, once pip has installed its requirements.

    The folder holds the model and its vocabularies, the files for segmentation, ``translate.json``,
    ``translate.py`` and ``requirements.txt``. No file names a path of this machine.

    Args:
        checkpoint: as for `ctranslate2_model.convert`.
        target: the folder to write. The folder appears complete or not at all. An earlier exported
            folder is replaced.
        dictionaries: fairseq's dictionaries of source and target; a joint dictionary twice.
        segmentation: the segmentation of the training text. The key `method`, and

            - for ``sentencepiece``: `model`, a file;
            - for ``subword-nmt``: `codes`, a file. If a vocabulary limited the training text's
              subwords, also `vocabulary` (the source's file) and `vocabulary_threshold`;
            - for ``none``: nothing, because the text consists of words with spaces between them.

            Two keys describe steps before the segmentation, for all methods: `unicode_form`
            (``NFC``, ...), and `moses` for Moses' normalization and tokenization. `moses` is True
            or a mapping with some of `segmentation.MOSES`. Translations are detokenized.
        quantization: type of the weights, one of `ctranslate2_model.QUANTIZATIONS`.
        languages: source and target; None takes the checkpoint's language.
        beam: the translator's default beam.
        lenpen: the translator's length penalty. Hypotheses are ranked by their log-probability
            divided by (length to the power of `lenpen`).

    Raises:
        UserError: the model or the segmentation cannot be exported, they do not fit each other, or
            the folder cannot be written.
    """
    ctranslate2_model.check_quantization(quantization)
    if beam < 1:
        raise UserError(f"--beam {beam}: give 1 or more")
    model = ctranslate2_model.load(checkpoint, dictionaries)
    languages = _languages(model.languages, languages)
    ctranslate2_model.check_target(target)
    with written_whole(target) as folder:
        ctranslate2_model.write(model, folder, dictionaries, quantization)
        settings, requirements = segmenting.install(
            segmentation, folder, languages, model.dictionary
        )
        most_source, most_target = model.max_tokens
        settings = {
            "languages": languages,
            "quantization": quantization,
            "beam": beam,
            "lenpen": lenpen,
            "max_source_tokens": most_source,
            "max_target_tokens": most_target,
            **settings,
        }
        (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
        requirements = [segmenting.requirement("ctranslate2"), *requirements]
        requirements.append(segmenting.requirement("tqdm"))
        (folder / "requirements.txt").write_text("\n".join(requirements) + "\n", "utf-8")
        shutil.copyfile(TRANSLATOR, folder / TRANSLATOR.name)


def _languages(
    recorded: tuple[str | None, str | None], given: tuple[str | None, str | None]
) -> tuple[str | None, str | None]:
    source, target = (mine or theirs for mine, theirs in zip(given, recorded, strict=True))
    return source, target
