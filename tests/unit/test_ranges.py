"""What an option may be, and how a value that cannot be is refused."""

import math
from dataclasses import dataclass, field

import pytest
from omegaconf import OmegaConf

from ka_fairseq.errors import UserError
from ka_fairseq.ranges import Range, check_options


@dataclass
class Config:
    select: str = field(default="all", metadata={"valid": ("all", "some")})
    share: float | None = field(default=0.5, metadata={"valid": Range(0, 1, without_most=True)})
    other: float = 5.0


@pytest.mark.parametrize(
    ("valid", "inside", "outside", "must"),
    [
        (Range(0, 1), (0, 1), (-0.1, 1.1, math.nan), "lie between 0 and 1"),
        (Range(0, 1, without_most=True), (0,), (1,), "lie in [0, 1)"),
        (Range(0, 1, without_least=True), (1,), (0,), "lie in (0, 1]"),
        (Range(1), (1, 10**9), (0, math.inf), "be 1 or more"),
        (Range(0, without_least=True), (1e-9,), (0, math.inf), "be greater than 0"),
        (Range(0.1, 2, or_zero=True), (0, 0.1, 2), (0.05,), "be 0, or lie between 0.1 and 2"),
    ],
)
def test_a_range(valid, inside, outside, must):
    assert all(value in valid for value in inside)
    assert not any(value in valid for value in outside)
    assert str(valid) == must


@pytest.mark.parametrize("made", [Config, OmegaConf.create], ids=["dataclass", "DictConfig"])
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"select": "none", "share": 0.5}, "unknown --select 'none'; choose from all, some"),
        ({"select": "all", "share": 1}, r"--share must lie in \[0, 1\), not 1"),
        ({"select": "all", "share": 0, "other": 6}, "--other must be 7 or more, not 6"),
    ],
)
def test_what_cannot_be_is_refused(made, given, says):
    with pytest.raises(UserError, match=says):
        check_options(made(**given) if made is Config else made(given), Config, other=Range(7))


def test_what_is_not_given_is_not_checked():
    check_options(Config(share=None), Config)
    check_options(OmegaConf.create({"select": "some"}), Config)
