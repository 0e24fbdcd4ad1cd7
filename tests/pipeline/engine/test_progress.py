from __future__ import annotations

import io
import sys

import pytest
from pipeline.engine import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_several_bars_in_a_file_are_lines(capsys):
    with progress.bar(title="kd", total=4) as kd, progress.bar(title="ka", total=4) as ka:
        kd.update(4)
        progress.say("topk: done already")
        ka.update(2)
    printed = capsys.readouterr()
    assert printed.out == "topk: done already\n"
    assert "\r" not in printed.err and "\x1b" not in printed.err
    lines = [line.partition("|")[0].split() for line in printed.err.splitlines()]
    assert lines[:2] == [["kd:", "0%"], ["ka:", "0%"]]
    assert lines[-2:] == [["ka:", "50%"], ["kd:", "100%"]]


@pytest.mark.parametrize("first", [0, 1])
def test_on_a_terminal_a_bar_that_ends_is_a_line_above_the_others(monkeypatch, first):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    bars = [progress.bar(title=title, total=2) for title in ("kd", "ka")]
    bars[first].update(2)
    bars[first].close()
    text = terminal.getvalue()
    assert text.count(f"{('kd', 'ka')[first]}: 100%") >= 1
    ended = text.rindex(f"{('kd', 'ka')[first]}: 100%")
    assert text[ended:].count("\n") >= 1
    assert f"{('ka', 'kd')[first]}:   0%" in text[ended:]  # drawn anew below
    bars[1 - first].close()
    assert terminal.getvalue().endswith("\n")
