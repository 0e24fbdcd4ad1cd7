"""The text that is trained on, up to fairseq-preprocess, which the slow tests run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pipeline import files, state
from pipeline.errors import PipelineError
from pipeline.teacher_text import binarizing
from pipeline.teacher_text.binarizing import TrainingText
from pipeline.teacher_text.shards import Candidate, write
from pipeline.teacher_text.spec import Text
from pipeline.teacher_text.translating import Translation

from tests.pipeline.teacher_text.conftest import ENGLISH

FOUND = {
    0: [Candidate(-1.0, "Choose area."), Candidate(-2.0, "Select some range.")],
    1: [Candidate(-1.0, "Klicken Sie auf die Schaltfläche Schließen.")],
    2: [Candidate(-1.0, "The <unk> is not changed.")],
}


@pytest.fixture
def translated(prepared, monkeypatch):
    """Three of four sentences are translated, in two shards; nothing is binarized."""
    monkeypatch.setattr(binarizing, "preprocess", lambda pair, target, log: None)
    pair = replace(prepared, translate={"shard": 3})
    (source,) = Translation("teacher").sources(pair)
    for shard in source.shards(3):
        write(shard, {n: FOUND[n] for n in range(shard.first, shard.last) if n in FOUND})
    state.write(pair.run_dir, "translate.teacher", state.Record({}, done=True))
    return pair


def lines(pair, text, language):
    path = binarizing.folder(pair, text) / "segmented" / f"train.{language}"
    return [line.replace(" ", "").replace("▁", " ").strip() for line in files.read_lines(path)]


@pytest.mark.parametrize(
    ("kind", "chosen"), [("best", "Choose area."), ("reference", "Select some range.")]
)
def test_the_translations_that_are_fit_are_trained_on(translated, kind, chosen, capsys):
    text = Text(((kind, 1),))
    TrainingText(text).stage.execute(translated)
    assert lines(translated, text, "en") == [chosen]
    assert lines(translated, text, "de") == ["Wählen Sie einen Bereich aus."]
    told = f"text.{kind}: {kind}: 1 translations kept, 1 copies of the source, 1 with unknown types"
    assert told in capsys.readouterr().out
    assert told in translated.log(f"text.{kind}").read_text(encoding="utf-8")
    folder = binarizing.folder(translated, text)
    assert (folder / "valid.de-en.de.bin").read_text() == "valid\n"


def test_a_mixture_counts_each_part_as_often_as_it_says(translated):
    text = Text((("references", 1), ("best", 2)))
    TrainingText(text).stage.execute(translated)
    assert lines(translated, text, "en") == [*ENGLISH, "Choose area.", "Choose area."]
    record = state.read(translated.run_dir, "text.references-best2")
    assert record.facts["pairs"] == 6


def test_other_filters_make_it_anew_and_nothing_left_is_an_error(translated):
    stage = TrainingText(Text((("best", 1),))).stage
    stage.execute(translated)
    kept = replace(translated, translate={"shard": 3, "filters": {"drop_copies": False}})
    stage.execute(kept)
    assert len(lines(kept, Text((("best", 1),)), "en")) == 2
    strict = replace(translated, translate={"shard": 3, "filters": {"max_ratio": 1.0}})
    with pytest.raises(PipelineError, match=r"no translation is left .* see translate\.filters"):
        stage.execute(strict)


def test_a_shard_that_is_gone_is_noticed(translated):
    (source,) = Translation("teacher").sources(translated)
    source.shards(3)[1].path.unlink()
    with pytest.raises(PipelineError, match=r"00001\.tsv is gone: --force translate\.teacher"):
        TrainingText(Text((("mbr", 1),))).stage.execute(translated)


def test_models_read_their_text_and_answers_to_it(prepared):
    from pipeline import stages

    by_name = {training.name: training for training in stages.trainings(prepared)}
    for name, folder in {"seq_kd_ka": "texts/best", "ka": "bin"}.items():
        words = by_name[name].arguments(prepared)
        (data,) = [word for word in words if word.startswith("task.data=")]
        assert data.endswith(f"/{folder}'")
        assert ("from text.best" in by_name[name].inputs(prepared)) == (name != "ka")
    caches = {name: by_name[name].cache_folder(prepared).name for name in ("seq_kd_ka", "ka")}
    assert caches == {"seq_kd_ka": "cache-best", "ka": "cache"}
    table = stages.table(prepared)
    assert table["seq_kd_ka"].needs == (
        *("binarize", "text.best", "seq_kd", "teacher"),
        "cache.teacher.best",
    )
    assert table["cache.teacher.best"].needs == ("binarize", "text.best", "teacher")
