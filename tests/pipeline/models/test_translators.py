"""Stages `export.MODEL`: what they hand over, and what becomes of a model that is refused."""

from __future__ import annotations

import pytest
from pipeline.engine import files, state
from pipeline.engine.errors import PipelineError
from pipeline.models import settings, translators

import ka_fairseq.export
from ka_fairseq.errors import UserError
from tests.pipeline import own_configs


@pytest.fixture
def handed(pair, monkeypatch):
    """What the stage of a trained model hands to `export_folder`, which writes a kilobyte."""
    files.write_text(pair.files.model("ka"), "weights")
    for name in ("binarize", "ka", "lenpen.ka"):
        state.write(pair.files.run_dir, name, state.Record({}, done=True))
    calls = []

    def export_folder(checkpoint, target, **options):
        assert not target.exists()
        calls.append({"checkpoint": checkpoint, **options})
        files.write_text(target / "model.bin", "x" * 1000)

    monkeypatch.setattr(ka_fairseq.export, "export_folder", export_folder)
    return calls


def refusing(error):
    def export_folder(checkpoint, target, **options):
        raise error

    return export_folder


def test_a_folder_is_written_once_for_each_model_and_setting(pair, handed):
    stage = translators.stage(pair, "ka")
    stage.execute(pair.files)
    stage.execute(pair.files)
    (options,) = handed
    assert options["checkpoint"] == pair.files.model("ka") and options["quantization"] == "int8"
    assert [path.name for path in options["dictionaries"]] == ["dict.de.txt", "dict.en.txt"]
    assert (options["beam"], options["lenpen"]) == (6, 1.0)
    assert translators.facts(pair, "ka") == {"quantization": "int8", "megabytes": 0.001}
    files.write_text(pair.files.model("ka"), "other weights")
    stage.execute(pair.files)
    assert len(handed) == 2 and translators.exported(pair) == ["ka"]


def test_a_model_that_is_refused_is_a_line_and_no_failure(pair, handed, monkeypatch, capsys):
    translators.stage(pair, "ka").execute(pair.files)
    refusal = refusing(UserError("CTranslate2 has no adaptive softmax"))
    monkeypatch.setattr(ka_fairseq.export, "export_folder", refusal)
    files.write_text(pair.files.export_dir / "ka.tmp.x7" / "model.pt", "of a run that was cut off")
    translators.stage(pair, "ka").execute(pair.files, force=True)
    assert not list(pair.files.export_dir.iterdir())
    said = "export.ka: not exported: CTranslate2 has no adaptive softmax\n"
    assert capsys.readouterr().out.endswith(said)
    assert translators.facts(pair, "ka") == {"refused": "CTranslate2 has no adaptive softmax"}
    assert translators.exported(pair) == [] and not translators.folder(pair, "ka").exists()


def test_a_full_disk_is_a_failure(pair, handed, monkeypatch):
    error = UserError("export/ka cannot be written: No space left on device")
    error.__cause__ = OSError(28, "No space left on device")
    monkeypatch.setattr(ka_fairseq.export, "export_folder", refusing(error))
    with pytest.raises(PipelineError, match=r"^stage export\.ka failed: .*No space left"):
        translators.stage(pair, "ka").execute(pair.files)
    assert translators.facts(pair, "ka") is None


def test_raw_text_is_segmented_as_it_was_for_the_training(tmp_path):
    def found(name):
        pair = settings.load(settings.CONFIGS / name, tmp_path)
        return pair.files.bin_dir, translators.segmentation_of(pair)

    folder, demo = found("demo")
    assert demo == {
        **{"method": "sentencepiece", "model": folder / "sentencepiece.model"},
        **{"moses": False, "unicode_form": None},
    }
    _, thai = found("iwslt15_th_en")
    assert thai["unicode_form"] == "NFC" and not thai["moses"]
    folder, news = found("wmt17_de_en")
    assert news == {
        **{"method": "subword-nmt", "codes": folder / "bpe.codes"},
        **{"vocabulary": folder / "vocab.de", "vocabulary_threshold": 50},
        **{"moses": True, "unicode_form": None},
    }


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"quantization": "int4"}, r"int4 is none of int8, int8_float32, float16, float32$"),
        ({"quantisation": "int8"}, "export has one setting, quantization$"),
        ("int8", "export has one setting, quantization$"),
    ],
)
def test_a_wrong_setting_is_said_before_anything_runs(section, says, tmp_path):
    configs = own_configs.copied("iwslt15_th_en", tmp_path / "configs")
    with own_configs.changing(configs) as content:
        content["export"] = section
    with pytest.raises(PipelineError, match=says):
        settings.load(configs, tmp_path)
