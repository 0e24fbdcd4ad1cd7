"""`prepare` and `binarize` on archives in the layout of the paper's two releases."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest
import yaml
from fairseq.data import Dictionary
from pipeline.__main__ import main
from pipeline.engine import commands
from pipeline.engine.errors import PipelineError
from pipeline.models import settings
from pipeline.text import binarize, prepare
from pipeline.text.sources.releases import Release

from tests import forking
from tests.pipeline import releases
from tests.support import ROOT

WMT, IWSLT = "wmt17_de_en", "iwslt15_th_en"
QUICK = {
    WMT: {"segmentation": {"symbols": 150, "vocabulary_threshold": 2}},
    IWSLT: {"segmentation": {"vocab_size": 200}},
}
MAKE = {WMT: releases.wmt17, IWSLT: releases.iwslt15}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Make a pair with its archives; `change` may spoil them before they are recorded."""

    monkeypatch.setattr(commands, "fairseq_module", forking.module_line)

    def make(name, change=lambda archives: None, **options):
        archives = MAKE[name](tmp_path / "archives", **options)
        change(archives)
        pair = releases.pair_of(name, archives, tmp_path, **QUICK[name])
        pair.files.run_dir.mkdir(parents=True)
        return replace(pair, files=replace(pair.files, archives_dir=archives))

    return make


def read(path):
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def test_wmt17_is_prepared(small):
    pair = small(WMT)
    facts = prepare.run(pair)
    assert facts["pairs"] == {"train": 61, "valid": 6, "test": 7}
    assert facts["dropped"] == "1 broken UTF-8, 1 duplicate, 1 empty, 1 ratio of lengths"
    # A byte order mark and CRLF on one side; the three corpora one after the other.
    german, english = read(pair.files.text_dir / "train.de"), read(pair.files.text_dir / "train.en")
    assert german[0] == "Der Europäische Rat tagte am 3. Mai 2016 in Brüssel . 0"
    assert [line.split()[-1] for line in german[:40]] == [str(n) for n in range(40)]
    assert len(german) == len(english) == 61
    assert read(pair.files.text_dir / "test.de")[2] == (
        "Wir brauchen 1.000 Stimmen , z. B. aus Köln &amp; Umgebung ."
    )
    assert read(pair.files.text_dir / "test.de")[6] == ""  # an empty segment keeps its line
    assert read(pair.reference) == [*releases.ENGLISH, "Left out."]
    assert {path.name for path in pair.files.text_dir.iterdir()} == {
        *(f"{split}.{lang}" for split in ("train", "valid", "test") for lang in ("de", "en")),
        *("test.raw.de", "test.raw.en"),
    }


def test_iwslt15_is_prepared(small):
    pair = small(IWSLT)
    facts = prepare.run(pair)
    # 2010 and 2011 in three files of 6, 5 and 4 segments; 2012 and 2013 in two of 3 and 2.
    assert facts["pairs"] == {"train": 60, "valid": 15, "test": 5}
    assert facts["dropped"] == "1 empty"
    thai, english = read(pair.files.text_dir / "train.th"), read(pair.files.text_dir / "train.en")
    assert (thai[0], english[0]) == ("ผมชอบกินข้าวผัด 0", "I like to eat fried rice. 0")
    assert (thai[2], english[2]) == (
        "เขา & เธอไปโรงเรียนด้วยกัน 2",
        "He & she go to school together. 2",
    )
    assert not any("TED" in line or "<" in line for line in english)
    assert read(pair.files.text_dir / "test.th") == [*releases.THAI[3:], *releases.THAI[4:]]
    assert read(pair.reference) == [*releases.THAI_ENGLISH[3:], *releases.THAI_ENGLISH[4:]]


def test_a_release_without_some_of_the_years(small):
    pair = small(IWSLT, years=("tst2010", "tst2012"))
    assert prepare.run(pair)["pairs"] == {"train": 60, "valid": 6, "test": 5}


@pytest.mark.slow
@pytest.mark.parametrize("name", [WMT, pytest.param(IWSLT, marks=pytest.mark.extended)])
def test_a_release_is_binarized(small, name):
    pair = small(name)
    prepare.run(pair)
    binarize.run(pair)
    dictionaries = [
        Dictionary.load(str(pair.files.bin_dir / f"dict.{x}.txt")) for x in pair.languages
    ]
    assert dictionaries[0].symbols == dictionaries[1].symbols
    for split in ("train", "valid", "test"):
        for language in pair.languages:
            assert (
                pair.files.bin_dir / f"{split}.{'-'.join(pair.languages)}.{language}.idx"
            ).exists()
            text = read(pair.files.text_dir / f"{split}.{language}")
            segmented = read(pair.files.bin_dir / "segmented" / f"{split}.{language}")
            assert len(segmented) == len(text)
            if name == WMT:
                assert [line.replace("@@ ", "") for line in segmented] == text
            else:
                joined = [line.replace(" ", "").replace("▁", " ").strip() for line in segmented]
                assert joined == text
    # Without which several workers write no index beyond 2 GiB, see ka_fairseq/compat/numpy_2.py.
    assert f"user_dir={str(settings.USER_DIR)!r}" in pair.files.log("binarize").read_text("utf-8")


def lines(*sentences):
    return releases.lines(sentences)


@pytest.mark.parametrize(
    ("name", "file", "members", "says"),
    [
        (
            WMT,
            "training-parallel-nc-v12.tgz",
            {
                "training/news-commentary-v12.de-en.de": lines("eins", "zwei", "drei"),
                "training/news-commentary-v12.de-en.en": lines("one", "two"),
            },
            r"news-commentary-v12\.de-en\.de: the target side ends after 2 lines",
        ),
        (
            WMT,
            "test.tgz",
            {"test/newstest2017-deen-src.de.sgm": b"<seg id='1'>x</seg>"},
            r"test\.tgz must hold test/newstest2017-deen-src\.de\.sgm and as many",
        ),
        (
            WMT,
            "dev.tgz",
            {
                "dev/newstest2016-deen-src.de.sgm": b"<seg id='1'>x</seg><seg id='2'>x</seg>",
                "dev/newstest2016-deen-ref.en.sgm": b"<seg id='1'>x</seg>",
            },
            r"src\.de\.sgm has 2 segments but newstest2016-deen-ref\.en\.sgm has 1",
        ),
        (
            WMT,
            "dev.tgz",
            {
                "dev/newstest2016-deen-src.de.sgm": b"<seg id='1'>x</seg>",
                "dev/newstest2016-deen-ref.en.sgm": b"<seg id='2'>x</seg>",
            },
            r"has segment 1 where newstest2016-deen-ref\.en\.sgm has 2",
        ),
        (
            IWSLT,
            "th-en.tgz",
            {
                "th-en/train.tags.th-en.th": lines("<title>x</title>", "หนึ่ง", "สอง"),
                "th-en/train.tags.th-en.en": lines("one"),
            },
            r"train\.tags\.th-en\.th: the target side ends after 1 lines",
        ),
    ],
)
def test_what_does_not_belong_together(small, name, file, members, says):
    pair = small(name, lambda folder: releases.write_tgz(folder / file, members))
    with pytest.raises(PipelineError, match=says):
        prepare.run(pair)
    assert not pair.files.text_dir.exists()


def test_another_number_of_lines_than_was_released(small):
    pair = small(WMT)
    pair.text["parts"]["valid"][0]["lines"] = 2999
    with pytest.raises(PipelineError, match=r"dev\.tgz: .* has 6 lines instead of 2999"):
        prepare.run(pair)


def test_a_truncated_archive_is_found_out(small, monkeypatch, capsys):
    pair = small(WMT)
    monkeypatch.setattr(settings, "CONFIGS", pair.files.config_dir.parent)
    path = pair.files.archives_dir / "training-parallel-commoncrawl.tgz"
    path.write_bytes(path.read_bytes()[:-10])
    runs = pair.files.run_dir.parent
    words = [WMT, "prepare", "--quick", "--runs", runs, "--archives", pair.files.archives_dir]
    assert main([str(word) for word in words]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"error: stage prepare failed: {path} (the Common Crawl corpus")
    assert "is cut off" in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "broken"),
    [
        ("prepare", "archives.extract"),
        ("prepare", "clean.clean"),
        pytest.param("binarize", "subword_bpe.train", marks=pytest.mark.extended),
        pytest.param("binarize", "segmentation.encode", marks=pytest.mark.extended),
    ],
)
def test_a_run_that_is_cut_off_goes_on(small, monkeypatch, capsys, stage, broken):
    pair = small(WMT)
    monkeypatch.setattr(settings, "CONFIGS", pair.files.config_dir.parent)
    words = [WMT, *("prepare", "binarize")[: 1 + (stage == "binarize")], "--quick"]
    words += ["--runs", str(pair.files.run_dir.parent), "--archives", str(pair.files.archives_dir)]
    module, _, name = broken.partition(".")
    module = importlib.import_module(f"pipeline.text.{module}")
    original, calls = getattr(module, name), []

    def interrupted(*args, **kwargs):
        result = original(*args, **kwargs)
        calls.append(args)
        if len(calls) == 2 or name == "train":
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(module, name, interrupted)
        assert main(words) == 130
    assert "run the same command again to go on from here" in capsys.readouterr().err
    assert main(words) == 0
    assert len(read(pair.files.text_dir / "train.de")) == 61
    assert not list(pair.files.run_dir.glob("*.tmp"))


def test_archives_go_with_a_release(tmp_path, capsys):
    words = ["demo", "--archives", str(tmp_path), "--runs", str(tmp_path / "runs")]
    assert main(words) == 1
    assert "demo is made from no archives" in capsys.readouterr().err
    words = [WMT, "--archives", str(tmp_path / "none"), "--runs", str(tmp_path / "runs")]
    assert main(words) == 1
    assert "is no folder" in capsys.readouterr().err


def test_ones_own_text_is_cleaned_as_the_pair_says(small, tmp_path):
    data = tmp_path / "own"
    data.mkdir()
    for split in ("train", "valid", "test"):
        (data / f"{split}.de").write_text("Guten Tag.\nGuten Tag.\n", encoding="utf-8")
        (data / f"{split}.en").write_text("Good day.\nGood day.\n", encoding="utf-8")
    pair = small(WMT)
    pair = replace(pair, files=replace(pair.files, data_dir=data))
    assert prepare.run(pair)["pairs"] == {"train": 1, "valid": 2, "test": 2}
    assert read(pair.files.text_dir / "train.de") == ["Guten Tag ."]
    assert read(pair.reference) == ["Good day."] * 2


def test_an_address_is_no_input(small):
    pair = small(WMT)
    before = prepare.inputs(pair)
    pair.text["archives"]["dev.tgz"]["url"] = "http://mirror.example/dev.tgz"
    assert prepare.inputs(pair) == before
    pair.text["archives"]["dev.tgz"]["checksum"] = "md5:0"
    assert prepare.inputs(pair) != before


@pytest.mark.parametrize("name", [WMT, IWSLT])
def test_the_settings_of_the_real_releases(name):
    text = yaml.safe_load((ROOT / "configs" / name / "pair.yaml").read_text("utf-8"))["text"]
    release = Release.load(text)
    for archive in release.archives.values():
        assert archive.url.endswith(archive.name)
        if archive.checksum:
            algorithm, _, digest = archive.checksum.partition(":")
            assert len(bytes.fromhex(digest)) == {"sha256": 32, "md5": 16}[algorithm]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text["archives"]["dev.tgz"].pop("url"), "text.archives in pair.yaml"),
        (lambda text: text["parts"].pop("valid"), "text.parts in pair.yaml: 'valid'"),
        (lambda text: text["parts"]["valid"][0].update(archive="x"), "no archive x"),
    ],
)
def test_a_mistake_in_the_settings(small, change, says):
    pair = small(WMT)
    change(pair.text)
    with pytest.raises(PipelineError, match=says):
        Release.load(pair.text)
