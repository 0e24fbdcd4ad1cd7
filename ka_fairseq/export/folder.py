"""A folder that translates raw text on any machine: model, segmentation and translator."""

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
    """Write a folder with all that translating raw text needs, but for what pip installs.

    It holds the model and its vocabularies, what segments text, ``translate.json``,
    ``translate.py`` and ``requirements.txt``; no name of a folder or file of this machine.

    Args:
        checkpoint: as of `ctranslate2_model.convert`.
        target: the folder; appears whole or not at all. One that holds such a model is replaced.
        dictionaries: fairseq's of source and target, one file twice where they are joint.
        segmentation: how the text was made that the model was trained on: `method`, and

            - for ``sentencepiece``: `model`, its file;
            - for ``subword-nmt``: `codes`, its file, and, where rare subwords were split further,
              `vocabulary` (the source's, a file) and `vocabulary_threshold`;
            - for ``none``: nothing, text is words with spaces between them.

            Before it, for all of them: `unicode_form` (``NFC``, ...), and `moses`, True or a
            mapping with some of `segmentation.MOSES`, for Moses' normalization and tokenization,
            which translations are freed from.
        quantization: of the weights, one of `ctranslate2_model.QUANTIZATIONS`.
        languages: of source and target, where they are not what the checkpoint tells.
        beam: the translator's, unless it is told otherwise.
        lenpen: likewise, the length penalty: hypotheses are compared by their log-probability,
            divided by their length to the power of this.

    Raises:
        UserError: the model or the segmentation cannot be exported, they do not belong together, or
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
