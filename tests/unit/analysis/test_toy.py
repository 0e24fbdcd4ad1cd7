"""What holds of the four-class task, and that it is the package's divergences that say so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from ka_fairseq.analysis import toy
from ka_fairseq.errors import UserError

Q = np.array(toy.TEACHER)
NON_NEGATIVE_FORMS = ("generalized", "tail")
# The probabilities .33 .20 .30 .17 of shared notes on the paper are these, rounded.
ROUNDED = torch.softmax(torch.tensor([0.5, 0.0, 0.4, -0.2], dtype=torch.float64), -1)


def final(frame: pd.DataFrame, form: str, order: str) -> np.ndarray:
    course = frame[frame.form.eq(form) & frame.order.eq(order)]
    return course[toy.CLASSES].to_numpy()[-1]


def sets_seen(frame: pd.DataFrame, form: str, order: str) -> list[str]:
    seen = frame[frame.form.eq(form) & frame.order.eq(order)].seen
    return list(seen[seen.ne(seen.shift())])


@pytest.fixture(scope="module")
def course() -> pd.DataFrame:
    return toy.toy()


@pytest.mark.parametrize("form", NON_NEGATIVE_FORMS)
def test_forward_reaches_the_best_two_and_leaves_the_others_to_themselves(course, form):
    end = final(course, form, "forward")
    assert end[:2] == pytest.approx(Q[:2], abs=1e-3)
    assert np.abs(end[2:] - Q[2:]).min() > 0.05
    assert sets_seen(course, form, "forward") == ["{0, 1}"]


@pytest.mark.parametrize("form", NON_NEGATIVE_FORMS)
def test_backward_sees_three_classes(course, form):
    assert sets_seen(course, form, "backward") == ["{0, 2}", "{0, 1}"]
    assert final(course, form, "backward")[:2] == pytest.approx(Q[:2], abs=2e-3)


def test_course_has_the_paper_s_epochs(course):
    """Forward is there after some 30 epochs, backward changes its classes after some 100."""
    generalized = course[course.form.eq("generalized")].set_index("epoch")
    forward = generalized[generalized.order.eq("forward")]
    backward = generalized[generalized.order.eq("backward")]
    close = (forward[["p0", "p1"]] - Q[:2]).abs().max(axis=1) < 0.02
    assert close.idxmax() == 37
    assert backward.seen.eq("{0, 1}").idxmax() == 100
    assert backward.distance.iloc[-1] < 0.1 * forward.distance.iloc[-1]


@pytest.mark.parametrize(
    ("form", "order", "end"),
    [
        ("generalized", "forward", [0.400, 0.300, 0.181, 0.119]),
        ("generalized", "backward", [0.400, 0.300, 0.163, 0.137]),
        ("tail", "forward", [0.400, 0.300, 0.181, 0.119]),
        ("tail", "backward", [0.400, 0.300, 0.163, 0.137]),
    ],
)
def test_ends_known_from_elsewhere(form, order, end):
    frame = toy.toy(ROUNDED.tolist(), [form], epochs=1500)
    assert final(frame, form, order) == pytest.approx(end, abs=6e-4)


def test_partial_form_has_the_wrong_end():
    frame = toy.toy(ROUNDED.tolist(), ["partial"], epochs=600)
    forward, backward = (final(frame, "partial", order) for order in toy.ORDERS)
    # Σ_S −q·d is least where S has all of the probability, in the proportion of q.
    assert forward == pytest.approx([0.4 / 0.7, 0.3 / 0.7, 0, 0], abs=0.01)
    assert backward == pytest.approx([0.25] * 4, abs=0.05)
    assert len(sets_seen(frame, "partial", "backward")) > 100


def test_who_ends_nearer_depends_on_the_start():
    starts = torch.tensor(
        [toy.COUNTER_START, (0.38, 0.08, 0.50, 0.04), toy.START], dtype=torch.float64
    )
    frame = toy.toy_map(starts)
    assert list(frame.nearer) == ["forward", "backward", "backward"]
    assert frame.like_paper.all()
    ends = {
        order: toy.train(starts, order, "generalized", toy.RATE, 1500)[-1] for order in toy.ORDERS
    }
    assert ends["forward"][1, 2:].tolist() == pytest.approx([0.256, 0.044], abs=6e-4)
    assert ends["backward"][1, 2:].tolist() == pytest.approx([0.227, 0.073], abs=6e-4)
    assert frame.forward[1] == pytest.approx(0.056 * 2, abs=2e-3)


@pytest.mark.parametrize("order", toy.ORDERS)
@pytest.mark.parametrize("form", NON_NEGATIVE_FORMS)
def test_a_step_is_the_gradient_written_out(order, form):
    """Against finite differences of the divergence as a function of the four logits."""
    start = np.array(toy.COUNTER_START)
    best = [0, 1] if order == "forward" else [0, 2]
    rest = [index for index in range(4) if index not in best]

    def loss(logits: np.ndarray) -> float:
        p = np.exp(logits) / np.exp(logits).sum()
        a, b = (Q, p) if order == "forward" else (p, Q)
        if form == "tail":
            a, b = (np.array([*x[best], x[rest].sum()]) for x in (a, b))
            return float((a * np.log(a / b)).sum())
        a, b = a[best], b[best]
        return float((a * np.log(a / b) - a + b).sum())

    logits, tiny = np.log(start), 1e-6
    gradient = [
        (loss(logits + tiny * unit) - loss(logits - tiny * unit)) / (2 * tiny) for unit in np.eye(4)
    ]
    after = np.exp(logits - toy.RATE * np.array(gradient))
    course = toy.train(torch.tensor([toy.COUNTER_START]), order, form, toy.RATE, 1)
    assert course[1, 0].numpy() == pytest.approx(after / after.sum(), abs=1e-7)


def test_starts_do_not_touch_each_other():
    starts = toy.random_starts(5)
    together = toy.train(starts, "backward", "generalized", 0.5, 20)
    alone = torch.cat(
        [toy.train(start[None], "backward", "generalized", 0.5, 20) for start in starts], dim=1
    )
    assert torch.equal(together, alone)


def test_starts_of_the_map_are_distributions():
    for starts in (toy.slice_of_starts(0.4, 0.05), toy.random_starts(50)):
        assert starts.sum(1).numpy() == pytest.approx(1)
        assert (starts > 0).all()
    assert toy.slice_of_starts(0.4, 0.05)[:, 0].eq(0.4).all()


@pytest.mark.parametrize("start", [(0.5, 0.5), (0.4, 0.3, 0.2, 0.2), (1.0, 0.0, 0.0, 0.0)])
def test_refuses_what_is_no_distribution(start):
    with pytest.raises(UserError, match="sum to 1"):
        toy.toy(start)
