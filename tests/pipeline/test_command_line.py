"""What users see who mistype, through the real command."""

from __future__ import annotations

import subprocess

import pytest
from pipeline.__main__ import main
from pipeline.models import settings

from tests.support import ROOT


def pipeline(*arguments):
    command = [str(ROOT / "scripts" / "pipeline.sh"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "which pair? One of: demo"),
        (["klingon"], "unknown pair klingon: choose one of demo"),
        (["demo", "distil"], "unknown stage distil: choose from prepare, binarize, teacher"),
        (["demo", "report"], "report needs evaluate, which is not done: name evaluate too"),
        (["demo", "--jobs", "9", "evaluate"], "evaluate needs a trained model, and none is done"),
        (["--data", "DATA"], "--data needs --src, --tgt, --config too"),
        (["demo", "--src", "de"], "--src, --tgt, --config and --name go with --data"),
        (["--data", "DATA", "--src", "de", "--tgt", "de", "--config", "x"], "the same language"),
        (["--data", "DATA", "--src", "de", "--tgt", "en", "--config", "DATA"], "has no pair.yaml"),
        (["--data", "DATA", "--src", "de", "--tgt", "en", "--config", "DEMO"], "is missing"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, arguments, says):
    places = {"DATA": tmp_path, "DEMO": ROOT / "configs" / "demo"}
    words = [str(places.get(word, word)) for word in arguments]
    assert main([*words, "--runs", str(tmp_path / "runs")]) != 0
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("option", ["--jobs", "--threads"])
@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_jobs_and_threads_are_numbers_from_one_up(capsys, option, value):
    with pytest.raises(SystemExit):
        main(["demo", f"{option}={value}"])
    assert f"argument {option}: {value} is not a number from 1 up" in capsys.readouterr().err


@pytest.mark.parametrize("share", ["3/2", "0/2", "2", "a/b", "1/0"])
def test_a_share_is_one_of_several(capsys, share):
    with pytest.raises(SystemExit):
        main(["demo", "translate", "--shard", share])
    assert f"argument --shard: {share} is not like 2/4" in capsys.readouterr().err


def test_shares_are_of_translations_alone(capsys, tmp_path):
    for words in (["kd"], ["translate", "kd"], []):
        assert main(["demo", *words, "--shard", "1/2", "--runs", str(tmp_path)]) == 1
        assert (
            "--shard goes with these alone: cache, cache.junior, cache.teacher, "
            in capsys.readouterr().err
        )


def test_the_script_gives_the_error_and_its_exit_code(tmp_path):
    result = pipeline("klingon")
    assert result.returncode == 1
    known = ", ".join(settings.names())
    assert result.stderr == f"error: unknown pair klingon: choose one of {known}\n"


def test_help_lists_stages_and_pairs():
    result = pipeline("--help")
    assert result.returncode == 0
    words = " ".join(result.stdout.split())
    assert "prepare binarize teacher learner control cache kd ka mixture topk" in words
    results = words.index("evaluate export speed report")
    assert words.index("ka_scratch translate text seq_kd") < results
    assert "pair (demo" in result.stdout


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("3.9", "Python 3.9 is not supported: set PYTHON to a Python 3.11 or 3.12\n"),
        ("3.10", "the scripts need Python 3.11 or 3.12: set PYTHON to one. With Python 3.10 the "),
    ],
)
def test_demo_on_an_unsupported_python(tmp_path, version, says):
    old = tmp_path / f"python{version}"
    old.write_text(f"#!/bin/sh\necho {version}\n")
    old.chmod(0o755)
    result = subprocess.run(
        [str(ROOT / "scripts" / "demo.sh")],
        env={"PYTHON": str(old), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert result.stderr.startswith(f"error: {says}") and result.stderr.count("\n") == 1
