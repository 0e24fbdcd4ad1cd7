"""The translator of an exported folder: order, streams, errors, and no need of anything else."""

import contextlib
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import venv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ka_fairseq import translate
from ka_fairseq.translate import TranslateError, Translator, split
from tests.support import TEXT

SENTENCES = (TEXT / "test.de").read_text(encoding="utf-8").splitlines()[:12]
EMPTY = ["", " ", "\u3000\t"]


@pytest.fixture(scope="module")
def translator(exported_folder):
    return Translator(exported_folder, threads=1, beam=2)


@pytest.fixture(scope="module")
def alone(translator):
    """What becomes of each sentence on its own."""
    return {line: translator.translate([line])[0] for line in [*SENTENCES, *EMPTY]}


@settings(max_examples=15)
@given(st.lists(st.sampled_from([*SENTENCES, *EMPTY])), st.integers(1, 5))
def test_order_and_empty_lines_stay(translator, alone, lines, buffer):
    found = list(translator.stream(iter(lines), buffer=buffer))
    assert [best.text for (best,) in found] == [alone[line] for line in lines]
    assert all(alone[line] == "" for line in EMPTY) and all(alone[line] for line in SENTENCES)


@given(st.lists(st.sampled_from(["▁a", "b", "▁c.", "."]), max_size=60), st.integers(1, 20))
def test_split_loses_nothing_and_keeps_to_the_bound(tokens, most):
    parts = split(tokens, most, lambda rest, i: rest[i].startswith("▁"))
    assert [token for part in parts for token in part] == tokens
    assert all(1 <= len(part) <= most for part in parts)


def test_split_prefers_the_end_of_a_sentence_then_of_a_word():
    def parts(text, most):
        found = split(text.split(), most, lambda rest, i: rest[i].startswith("▁"))
        return [" ".join(part) for part in found]

    assert parts("▁a ▁b ▁c. ▁d ▁e ▁f", 4) == ["▁a ▁b ▁c.", "▁d ▁e ▁f"]
    assert parts("▁a b ▁c d e ▁f", 4) == ["▁a b ▁c d", "e ▁f"]  # nowhere before the middle
    assert parts("▁a b ▁c d ▁e f", 5) == ["▁a b ▁c d", "▁e f"]
    assert parts("a b c d e", 2) == ["a b", "c d", "e"]


def test_a_very_long_line_is_split_with_a_warning(translator, caplog):
    line = " ".join(SENTENCES * 6)
    with caplog.at_level("WARNING"):
        first, long, last = translator.translate([SENTENCES[0], line, SENTENCES[1]])
    (record,) = caplog.records
    assert re.match(r"line 2: \d+ subwords, more than the 1023 .* split into \d parts", record.msg)
    assert len(long.split()) > 100
    assert [first, last] == translator.translate(SENTENCES[:2])


def test_the_best_of_several_come_with_their_scores(translator):
    for line, found in zip(SENTENCES, translator.stream(SENTENCES, n_best=2), strict=True):
        scores = [translation.score for translation in found]
        assert len(found) == 2 and 0 > scores[0] >= scores[1]
        assert found[0].text == translator.translate([line])[0]
    assert list(translator.stream([""], n_best=2)) == [[("", 0.0), ("", 0.0)]]


def test_wrong_use_is_told(exported_folder, translator, tmp_path):
    with pytest.raises(TypeError, match="not one string"):
        translator.translate("Ein Satz.")
    with pytest.raises(TranslateError, match="a beam of 2 has no 3 translations"):
        translator.stream(["a"], n_best=3)
    with pytest.raises(TranslateError, match=r"translate\.json cannot be read"):
        Translator(tmp_path)
    with pytest.raises(TranslateError, match="a beam of 0"):
        Translator(exported_folder, beam=0)
    shutil.copytree(exported_folder, tmp_path / "damaged")
    (tmp_path / "damaged" / "model.bin").write_bytes(b"x")
    with pytest.raises(TranslateError, match="damaged cannot be used on cpu"):
        Translator(tmp_path / "damaged")


def command(folder, *arguments, text=b"", **options):
    """The folder's own translator, as a user calls it."""
    return subprocess.run(
        [sys.executable, str(folder / "translate.py"), "--threads", "1", *map(str, arguments)],
        input=text,
        capture_output=True,
        check=False,
        **options,
    )


def test_streams_and_files(exported_folder, tmp_path):
    first, second = tmp_path / "1.de", tmp_path / "2.de"
    first.write_bytes(b"\xef\xbb\xbf" + f"{SENTENCES[0]}\r\n\r\n{SENTENCES[1]}\r\n".encode())
    second.write_text(f"{SENTENCES[2]}\n{SENTENCES[3]}", encoding="utf-8")  # no newline at its end
    expected = Translator(exported_folder, threads=1).translate([SENTENCES[0], "", *SENTENCES[1:4]])
    # As where the locale knows no other letters than ASCII's.
    found = command(exported_folder, first, second, env={**os.environ, "LC_ALL": "C"})
    assert found.returncode == 0 and found.stdout.decode().split("\n") == [*expected, ""]
    assert found.stderr == b""
    command(exported_folder, "-", second, "-o", tmp_path / "out", text=first.read_bytes())
    assert (tmp_path / "out").read_bytes() == found.stdout
    assert command(exported_folder).stdout == b""


def test_n_best_and_scores(exported_folder):
    text = f"{SENTENCES[0]}\n\n".encode()
    found = command(exported_folder, "--n-best", 2, "--scores", text=text).stdout.decode()
    rows = [line.split("\t") for line in found.split("\n")[:-1]]
    assert [row[0] for row in rows] == ["1", "1", "2", "2"]
    assert float(rows[0][1]) >= float(rows[1][1]) and rows[2][1:] == ["0.0000", ""]
    (only,) = command(exported_folder, "--scores", text=text[:-1]).stdout.decode().splitlines()
    assert only.split("\t") == rows[0][1:]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"Ein Satz.\nb\xfcndig\n", "standard input, line 2: no valid UTF-8 at byte 2"),
        (b"Ein Satz.\n" + b"a\0b\0", "standard input, line 2: byte 2 is NUL; is it UTF-16?"),
    ],
)
def test_what_is_no_text_is_an_error_with_its_line(exported_folder, text, error):
    found = command(exported_folder, text=text)
    assert found.returncode == 1
    assert found.stderr.decode().strip().startswith(f"error: {error}")
    assert len(found.stderr.splitlines()) == 1
    assert len(found.stdout.splitlines()) == 1  # the line before it


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("missing.de",), "no file missing.de"),
        (("--beam", 0), "--beam 0: give 1 or more"),
        (("--n-best", 20), "a beam of 6 has no 20 translations"),
        (("--device", "cuda"), "cannot be used on cuda"),
    ],
)
def test_wrong_options_are_one_line(exported_folder, arguments, error):
    if "cuda" in arguments and shutil.which("nvidia-smi"):
        pytest.skip("there may be a GPU here")
    found = command(exported_folder, *arguments)
    assert found.returncode == 1 and found.stdout == b""
    (line,) = found.stderr.decode().splitlines()
    assert line.startswith("error: ") and error in line


def test_a_gpu_without_its_libraries(exported_folder, monkeypatch, caplog):
    """CTranslate2 loads the cuBLAS that it was built for with the first translation."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    own = ctranslate2.Translator

    class Translator:
        def __init__(self, path, device, **options):
            self.device = device
            self.model = own(path, device="cpu", **options)

        def translate_batch(self, *arguments, **options):
            if self.device == "cuda":
                raise RuntimeError("Library libcublas.so.12 is not found")
            return self.model.translate_batch(*arguments, **options)

    monkeypatch.setattr(ctranslate2, "Translator", Translator)
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 1)
    with pytest.raises(TranslateError, match=r"cannot be used on cuda: .*libcublas\.so\.12"):
        translate.Translator(exported_folder, device="cuda")
    assert not caplog.records
    found = translate.Translator(exported_folder, device="auto", threads=1).translate(["Datei"])
    assert found == translate.Translator(exported_folder, threads=1).translate(["Datei"])
    (record,) = caplog.records
    assert record.getMessage().startswith("translating on the CPU: ")
    assert "libcublas" in record.getMessage()


def test_a_package_that_is_missing_is_told(exported_folder):
    hide = "import sys, runpy; sys.modules['ctranslate2'] = None; sys.argv = [sys.argv[1]];"
    script = f"{hide} runpy.run_path(sys.argv[0], run_name='__main__')"
    found = subprocess.run(
        [sys.executable, "-c", script, str(exported_folder / "translate.py")],
        input="Ein Satz.\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert "ctranslate2 is not installed: pip install -r" in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_a_reader_that_leaves_ends_it_without_a_word(exported_folder):
    with subprocess.Popen(
        [sys.executable, str(exported_folder / "translate.py"), "--buffer", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        process.stdin.write(b"Ein Satz.\n" * 3)
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


def test_what_is_typed_in_is_answered_at_once(exported_folder):
    """On a terminal: a line is answered before there is another, and no bar is in the way."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, str(exported_folder / "translate.py"), "--threads", "1"],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(slave)
        os.write(master, f"{SENTENCES[0]}\n".encode())
        answer = process.stdout.readline()
        os.write(master, b"\x04")
        assert process.wait(60) == 0
        assert process.stderr.read() == b""
    os.close(master)
    assert answer.decode().strip() == Translator(exported_folder).translate(SENTENCES[:1])[0]


def test_progress_is_shown_on_a_terminal(exported_folder, tmp_path):
    (tmp_path / "in").write_text("\n".join(SENTENCES), encoding="utf-8")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    with subprocess.Popen(
        [sys.executable, str(exported_folder / "translate.py"), str(tmp_path / "in")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
    ) as process:
        os.close(slave)
        assert len(process.stdout.read().splitlines()) == len(SENTENCES)
    shown = b""
    with contextlib.suppress(OSError):  # its other end is closed
        while more := os.read(master, 10_000):
            shown += more
    os.close(master)
    assert f"{len(SENTENCES)}/{len(SENTENCES)} " in shown.decode()


def test_the_module_is_the_same_code(exported_folder, tmp_path, monkeypatch):
    copy = (exported_folder / "translate.py").read_bytes()
    assert copy == Path(translate.__file__).read_bytes()
    (tmp_path / "in").write_text(f"{SENTENCES[0]}\n", encoding="utf-8")
    files = (exported_folder, tmp_path / "in", "-o", tmp_path / "out")
    monkeypatch.setattr(sys, "argv", ["translate", *map(str, files)])
    translate.main()
    expected = Translator(exported_folder).translate(SENTENCES[:1])[0]
    assert (tmp_path / "out").read_text(encoding="utf-8") == f"{expected}\n"


@pytest.mark.extended
def test_a_fresh_environment_needs_the_requirements_alone(exported_folder, tmp_path):
    folder = shutil.copytree(exported_folder, tmp_path / "elsewhere" / "de-en")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "-r", folder / "requirements.txt"],
        capture_output=True,
        text=True,
        check=False,
    )
    if re.search("connection broken by|Max retries exceeded", installed.stderr):
        pytest.skip("no package index can be reached, so nothing can be installed")
    assert installed.returncode == 0, installed.stderr
    command = [python, "-I", folder / "translate.py", "--threads", "1"]
    found = subprocess.run(
        command,
        input="".join(f"{line}\n" for line in SENTENCES),
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=tmp_path,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == Translator(exported_folder).translate(SENTENCES)
    foreign = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False)
    assert b"No module named 'torch'" in foreign.stderr
