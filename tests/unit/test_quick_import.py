"""Importing the package imports fairseq, but not scikit-learn, which takes as long as the rest."""

import sys

import pytest
from fairseq.criterions import sentence_prediction

from ka_fairseq.quick_import import LATER, Later


def test_scikit_learn_is_put_off():
    """The tests import fairseq by this package, too (tests/conftest.py)."""
    if not hasattr(sentence_prediction, "f1_score"):
        pytest.skip("this fairseq needs no scikit-learn")
    assert sentence_prediction.f1_score.__module__ == Later.__module__


def test_no_stand_in_is_left():
    assert not any(isinstance(sys.modules.get(name), Later) for name in LATER)


def test_a_stand_in_calls_the_modules_function():
    assert Later("json").loads("7") == 7
    with pytest.raises(AttributeError):
        _ = Later("json").__path__
