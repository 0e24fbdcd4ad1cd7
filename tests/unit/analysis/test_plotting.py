"""What every figure has in common."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.figure import Figure

from ka_fairseq.analysis import plotting


def draw(path) -> Figure:
    frame = pd.DataFrame({"run": list("aabb"), "epoch": [0, 1, 0, 1], "value": [1, 2, 3, 4]})
    with plotting.figure(path) as drawing:
        plotting.draw_epochs(drawing.subplots(), frame, "value")
        plotting.legend_above(drawing)
    return drawing


def test_same_numbers_same_bytes(tmp_path):
    for name in ("one", "two"):
        draw(tmp_path / name)
    for kind in ("png", "svg"):
        one, two = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("one", "two"))
        assert one == two and len(one) > 1000


def test_a_name_with_a_dot_keeps_it(tmp_path):
    draw(tmp_path / "k0.5")
    assert {file.name for file in tmp_path.iterdir()} == {"k0.5.png", "k0.5.svg"}


def test_the_legend_covers_nothing(tmp_path):
    drawing = draw(tmp_path / "figure")
    (axes,), (legend,) = drawing.axes, drawing.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


@pytest.mark.parametrize("count", [7, 30])
def test_a_legend_leaves_the_axes_their_place(tmp_path, count):
    with plotting.figure(tmp_path / "figure") as drawing:
        axes = drawing.subplots()
        for number in range(count):
            axes.plot([0, 1], label=f"½ KD + ½ KA on seq-Inter {number}")
        plotting.legend_above(drawing)
    drawing.draw_without_rendering()
    (legend,) = drawing.legends
    page, box = drawing.bbox, legend.get_window_extent()
    assert len(legend.get_texts()) == count
    assert page.x0 <= box.x0 and box.x1 <= page.x1
    assert not box.overlaps(axes.get_window_extent())
    assert axes.get_window_extent().height > 1.5 * drawing.dpi


def test_without_labels_there_is_no_legend(tmp_path):
    with plotting.figure(tmp_path / "figure") as drawing:
        drawing.subplots().plot([0, 1])
        plotting.legend_above(drawing)
    assert drawing.legends == []


def test_each_name_has_its_own_look():
    names = [str(number) for number in range(12)]
    styles = plotting.series_styles(names)
    assert len({(style["color"], style["marker"]) for style in styles.values()}) == len(names)


def test_dollars_are_no_mathematics(tmp_path):
    with plotting.figure(tmp_path / "figure") as drawing:
        drawing.suptitle("$5 and \\oops$")
    assert (tmp_path / "figure.png").exists()
