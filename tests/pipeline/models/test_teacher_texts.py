"""The text that is trained on, made of translations that the test writes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sentencepiece
from pipeline.engine import state
from pipeline.engine.devices import WHOLE
from pipeline.engine.errors import PipelineError
from pipeline.models import teacher_texts
from pipeline.models.teacher_texts import TrainingText
from pipeline.models.training_text import Text
from pipeline.models.translate_settings import Filters, Recipe
from pipeline.models.translating import Translation

from ka_fairseq.distill import databin, shards
from ka_fairseq.distill.shards import Candidate
from ka_fairseq.distill.translations import Translations, made_of
from tests.databins import read_split
from tests.pipeline.models.conftest import ENGLISH, GERMAN

# The second is the source itself; the third has a type that nobody knows.
FOUND = {
    0: ["Choose area.", "Select some range."],
    1: [GERMAN[1]],
}


@pytest.fixture
def translated(prepared):
    """Three of four sentences are translated, in two shards."""
    pair = replace(prepared, translate=Recipe(shard=3))
    data = databin.load(databin.config(pair.files.bin_dir, *pair.languages), "train")
    folder = Translation("teacher").folder(pair)
    found = Translations.begin(folder, data.texts, made_of(data, [], {}, 3))
    pieces = sentencepiece.SentencePieceProcessor(str(pair.files.bin_dir / "sentencepiece.model"))
    candidates = {
        n: [Candidate(-1.0, " ".join(pieces.encode(text, out_type=str))) for text in texts]
        for n, texts in FOUND.items()
    }
    candidates[2] = [Candidate(-1.0, "▁The <unk> ▁is ▁not ▁changed .")]
    for shard in found.shards(data.texts[0]):
        shards.write(shard, {n: candidates[n] for n in shard.lines if n in candidates})
    state.write(pair.files.run_dir, "translate.teacher", state.Record({}, done=True))
    return pair


def lines(pair, text, language):
    found = read_split(teacher_texts.folder(pair, text), "train", language)
    return [line.replace(" ", "").replace("▁", " ").strip() for line in found]


@pytest.mark.parametrize(
    ("kind", "chosen"),
    [
        ("best", "Choose area."),
        ("closest", "Select some range."),
        ("reference", "Select some range."),
    ],
)
def test_the_translations_that_are_fit_are_trained_on(translated, kind, chosen, capsys):
    text = Text(((kind, 1),))
    TrainingText(text).stage(translated).execute(translated.files)
    assert lines(translated, text, "en") == [chosen]
    assert lines(translated, text, "de") == ["Wählen Sie einen Bereich aus."]
    told = f"text.{kind}: {kind}: 1 translations kept, 1 copies of the source, 1 with unknown types"
    assert told in capsys.readouterr().out
    assert told in translated.files.log(f"text.{kind}").read_text(encoding="utf-8")
    valid = "valid.de-en.de.bin"
    folder = teacher_texts.folder(translated, text)
    assert (folder / valid).read_bytes() == (translated.files.bin_dir / valid).read_bytes()


def test_a_mixture_counts_each_part_as_often_as_it_says(translated):
    text = Text((("references", 1), ("best", 2)))
    TrainingText(text).stage(translated).execute(translated.files)
    assert lines(translated, text, "en") == [*ENGLISH, "Choose area.", "Choose area."]
    record = state.read(translated.files.run_dir, "text.references-best2")
    assert record.facts["pairs"] == 6


def test_other_filters_make_it_anew_and_nothing_left_is_an_error(translated):
    text = TrainingText(Text((("best", 1),)))
    text.stage(translated).execute(translated.files)
    kept = replace(translated, translate=Recipe(shard=3, filters=Filters(drop_copies=False)))
    text.stage(kept).execute(kept.files)
    assert len(lines(kept, Text((("best", 1),)), "en")) == 2
    strict = replace(translated, translate=Recipe(shard=3, filters=Filters(max_ratio=0.9)))
    with pytest.raises(PipelineError, match=r"no translation is left"):
        text.stage(strict).execute(strict.files)


def test_a_shard_that_is_gone_is_noticed(translated):
    folder = Translation("teacher").folder(translated)
    (folder / "train" / "00001.tsv").unlink()
    with pytest.raises(PipelineError, match=r"00001\.tsv is missing: .*--force translate\.teacher"):
        TrainingText(Text((("mbr", 1),))).stage(translated).execute(translated.files)


def test_translations_of_an_earlier_version_are_made_anew(translated):
    (Translation("teacher").folder(translated) / "translations.json").unlink()
    with pytest.raises(PipelineError, match=r"earlier version: .*--force translate\.teacher"):
        TrainingText(Text((("mbr", 1),))).stage(translated).execute(translated.files)


def test_models_read_their_text_and_answers_to_it(prepared):
    from pipeline import stages

    by_name = {training.name: training for training in stages.trainings(prepared)}
    for name, folder in {"seq_kd_ka": "texts/best", "ka": "bin"}.items():
        words = by_name[name].arguments(prepared, WHOLE)
        (data,) = [word for word in words if word.startswith("task.data=")]
        assert data.endswith(f"/{folder}'")
        assert ("from text.best" in by_name[name].inputs(prepared, WHOLE)) == (name != "ka")
    caches = {name: by_name[name].cache_folder(prepared).name for name in ("seq_kd_ka", "ka")}
    assert caches == {"seq_kd_ka": "cache-best", "ka": "cache"}
    table = stages.table(prepared)
    assert table["seq_kd_ka"].needs == (
        *("binarize", "text.best", "seq_kd", "teacher"),
        "cache.teacher.best",
    )
    assert table["cache.teacher.best"].needs == ("binarize", "text.best", "teacher")
