"""Exported folders translate raw text as fairseq does, and name no machine."""

import json
import math
import re
import socket
import sys
from pathlib import Path

import pytest
import sentencepiece
from fairseq.data import Dictionary
from pipeline.text import segmentation as pipelines
from pipeline.text.moses import Moses

from ka_fairseq.errors import UserError
from ka_fairseq.export import export_folder
from ka_fairseq.export.__main__ import main
from ka_fairseq.translate import Translator
from tests.support import DEMO_TEACHER, ROOT, TEXT, USER_DIR, run
from tests.untrained import write_checkpoint

SENTENCES = (TEXT / "test.de").read_text(encoding="utf-8").splitlines()
DICTIONARIES = (DEMO_TEACHER / "dict.txt",) * 2
LANGUAGES = ("--source-lang", "de", "--target-lang", "en")
SENTENCEPIECE = {"method": "sentencepiece", "model": DEMO_TEACHER / "sentencepiece.model"}


@pytest.mark.slow
def test_it_translates_as_fairseq_does(exported_folder, tmp_path):
    for language in ("de", "en"):
        (tmp_path / f"dict.{language}.txt").write_bytes(DICTIONARIES[0].read_bytes())
    sentences = tmp_path / "sentences"
    sentences.write_text("".join(f"{line}\n" for line in SENTENCES), encoding="utf-8")
    printed = run(
        "fairseq-interactive",
        *(tmp_path, "--input", sentences, *LANGUAGES, "--beam", 6, "--lenpen", 1, "--cpu"),
        *("--user-dir", USER_DIR, "--path", DEMO_TEACHER / "model.pt"),
        *("--bpe", "sentencepiece", "--sentencepiece-model", SENTENCEPIECE["model"]),
        *("--buffer-size", len(SENTENCES), "--max-tokens", 4000),
    )
    theirs = re.findall(r"^D-\d+\t(\S+)\t(.*)$", printed.stdout, re.M)
    ours = list(Translator(exported_folder, threads=1).stream(SENTENCES))
    assert len(ours) == len(theirs) == len(SENTENCES)
    same = [text == best.text for (_, text), (best,) in zip(theirs, ours, strict=True)]
    assert sum(same) >= 0.99 * len(same)
    # fairseq tells scores in base 2.
    for (score, text), (best,) in zip(theirs, ours, strict=True):
        if text == best.text:
            assert best.score == pytest.approx(float(score) * math.log(2), abs=1e-3)


def test_what_is_in_it(exported_folder):
    names = {path.name for path in exported_folder.iterdir()}
    assert names == {
        *("model.bin", "config.json", "shared_vocabulary.json", "sentencepiece.model"),
        *("translate.json", "translate.py", "requirements.txt"),
    }
    requirements = (exported_folder / "requirements.txt").read_text("utf-8").splitlines()
    packages = [re.split("[>=]", line)[0] for line in requirements]
    assert packages == ["ctranslate2", "sentencepiece", "tqdm"]
    settings = json.loads((exported_folder / "translate.json").read_text("utf-8"))
    assert settings["languages"] == ["de", "en"] and settings["quantization"] == "float32"


def test_it_names_no_machine(binarized, tmp_path):
    """As sentencepiece's model does, by the paths of its training text, and a checkpoint."""
    pipelines.train(
        {language: TEXT / f"train.{language}" for language in ("de", "en")},
        tmp_path,
        {"vocab_size": 400},
    )
    model = tmp_path / "sentencepiece.model"
    assert str(TEXT).encode() in model.read_bytes()
    pieces = _dictionary_of_pieces(model, tmp_path)
    data = _data(tmp_path / "data", pieces)
    write_checkpoint(data, tmp_path / "a.pt", *LANGUAGES)
    assert str(tmp_path).encode() in (tmp_path / "a.pt").read_bytes()
    out = tmp_path / "out"
    export_folder(
        tmp_path / "a.pt",
        out,
        dictionaries=(data / "dict.de.txt", data / "dict.en.txt"),
        segmentation={"method": "sentencepiece", "model": model},
    )
    found = b"".join(path.read_bytes() for path in out.iterdir())
    for name in (tmp_path, TEXT, ROOT, Path.home(), sys.prefix, socket.gethostname()):
        assert len(str(name)) < 5 or str(name).encode() not in found  # "vm" may be a part of a word
    before, after = (
        sentencepiece.SentencePieceProcessor(model_file=str(path / "sentencepiece.model"))
        for path in (tmp_path, out)
    )
    assert before.encode(SENTENCES, out_type=str) == after.encode(SENTENCES, out_type=str)


def _dictionary_of_pieces(model, folder):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    pieces = [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]
    (folder / "pieces.txt").write_text("".join(f"{piece} 1\n" for piece in pieces), "utf-8")
    return folder / "pieces.txt"


def _data(folder, dictionary):
    folder.mkdir()
    for language in ("de", "en"):
        (folder / f"dict.{language}.txt").write_bytes(dictionary.read_bytes())
    return folder


@pytest.fixture(scope="module")
def bpe(tmp_path_factory):
    """Text through the pipeline's Moses and BPE, and a model over its types."""
    folder = tmp_path_factory.mktemp("bpe")
    text = {}
    for language in ("de", "en"):
        moses = Moses(language)
        lines = (TEXT / f"train.{language}").read_text(encoding="utf-8").splitlines()
        text[language] = folder / f"train.{language}"
        text[language].write_text("".join(f"{moses.tokenize(line)}\n" for line in lines), "utf-8")
    settings = {"method": "subword-nmt", "symbols": 300, "vocabulary_threshold": 5}
    pipelines.train(text, folder, settings)
    for language in ("de", "en"):
        segmented = folder / f"segmented.{language}"
        pipelines.encode(folder, language, settings, text[language], segmented)
    types = Dictionary()
    for language in ("de", "en"):
        Dictionary.add_file_to_dictionary(
            str(folder / f"segmented.{language}"), types, str.split, 1
        )
    types.finalize()
    types.save(str(folder / "types.txt"))
    _data(folder / "bin", folder / "types.txt")
    write_checkpoint(folder / "bin", folder / "model.pt", *LANGUAGES)
    return folder, settings


def test_bpe_and_moses_segment_as_the_pipeline_does(bpe, tmp_path):
    folder, settings = bpe
    out, bin_dir = tmp_path / "out", folder / "bin"
    options = (
        *("--to", "ctranslate2", "--data", bin_dir, "--quantization", "float32", "--beam", 2),
        *("--bpe-codes", folder / "bpe.codes", "--bpe-vocabulary", folder / "vocab.de"),
        *("--bpe-vocabulary-threshold", 5, "--moses", "--lenpen", 0.6, *LANGUAGES),
    )
    run("python", "-m", "ka_fairseq.export", folder / "model.pt", out, *options)
    sentences = [*SENTENCES, "Er sagte: „E-Mail & z. B. <b>“ – „ja“ …", "x ﬁ 10.000,5 %"]
    moses = Moses("de")
    (tmp_path / "text").write_text("".join(f"{moses.tokenize(s)}\n" for s in sentences), "utf-8")
    pipelines.encode(folder, "de", settings, tmp_path / "text", tmp_path / "segmented")
    expected = (tmp_path / "segmented").read_text(encoding="utf-8").split("\n")[:-1]
    translator = Translator(out, threads=1)
    assert [" ".join(translator.segmentation.encode(line)) for line in sentences] == expected
    tokens = ["That", "&apos;s", "an", "e", "@-@", "ma@@", "il", ",", "isn", "&apos;t", "it", "?"]
    assert translator.segmentation.decode(tokens) == "That's an e-mail, isn't it?"
    packages = (out / "requirements.txt").read_text("utf-8")
    assert "subword-nmt>=" in packages and "sacremoses>=" in packages
    assert "sentencepiece" not in packages
    settings = json.loads((out / "translate.json").read_text("utf-8"))
    assert (settings["beam"], settings["lenpen"]) == (2, 0.6)
    assert settings["moses"] == {
        **{"source": "de", "target": "en", "normalize": True},
        **{"aggressive_dash_splits": True, "escape": True},
    }


def test_words_without_subwords(binarized, tmp_path, monkeypatch):
    write_checkpoint(binarized, tmp_path / "a.pt")
    options = ("--to", "ctranslate2", "--data", binarized, "--no-segmentation")
    arguments = (tmp_path / "a.pt", tmp_path / "out", *options, "--unicode-form", "NFC")
    monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments)])
    main()
    settings = json.loads((tmp_path / "out" / "translate.json").read_text("utf-8"))
    assert settings["languages"] == ["de", "en"] and settings["quantization"] == "int8"
    translator = Translator(tmp_path / "out", threads=1)
    assert translator.segmentation.encode("u\u0308ber  die ") == ["über", "die"]
    assert len(translator.translate(["die datei", "und"])) == 2


@pytest.mark.parametrize(
    ("segmentation", "error"),
    [
        ({"method": "wordpiece"}, "choose from sentencepiece, subword-nmt, none"),
        ({"method": "none", "codes": "x"}, "segmentation by none has no codes"),
        ({**SENTENCEPIECE, "model": "missing"}, "sentencepiece's model: no file at missing"),
        ({**SENTENCEPIECE, "model": DICTIONARIES[0]}, "no model of sentencepiece"),
        ({"method": "subword-nmt", "codes": __file__}, "where no subword ends with @@"),
        ({**SENTENCEPIECE, "unicode_form": "NFX"}, "choose from NFC, NFD, NFKC, NFKD"),
        ({**SENTENCEPIECE, "moses": {"dashes": True}}, "moses has no dashes"),
    ],
)
def test_a_segmentation_that_cannot_be(segmentation, error, tmp_path):
    with pytest.raises(UserError, match=error):
        export_folder(
            DEMO_TEACHER / "model.pt",
            tmp_path / "out",
            dictionaries=DICTIONARIES,
            segmentation=segmentation,
        )
    assert not list(tmp_path.iterdir())


def test_a_segmentation_of_another_model(binarized, tmp_path):
    write_checkpoint(binarized, tmp_path / "a.pt")
    with pytest.raises(UserError, match="of the dictionary's types: give the file"):
        export_folder(
            tmp_path / "a.pt",
            tmp_path / "out",
            dictionaries=(binarized / "dict.de.txt", binarized / "dict.en.txt"),
            segmentation=SENTENCEPIECE,
        )


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--quantization", "int8"), "--quantization is no option of --to fairseq"),
        (("--to", "ctranslate2", "--half"), "--half is no option of --to ctranslate2"),
        (("--to", "ctranslate2"), "needs --data"),
        (("--to", "ctranslate2", "--data", "."), "one of --sentencepiece, --bpe-codes"),
        (
            ("--to", "ctranslate2", "--data", ".", "--no-segmentation", "--moses-no-escape"),
            "--moses-no-escape need --moses",
        ),
        (
            ("--to", "ctranslate2", "--data", ".", "--no-segmentation", "--bpe-vocabulary", "v"),
            "--bpe-vocabulary and --bpe-vocabulary-threshold need --bpe-codes",
        ),
    ],
)
def test_options_that_do_not_go_together(options, error, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["export", "a.pt", "out", *options])
    with pytest.raises(SystemExit):
        main()
    assert error in capsys.readouterr().err
