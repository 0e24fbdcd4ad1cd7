"""Every pair is in one share, and no file of the store in two."""

import argparse

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.teacher.cache import store
from ka_fairseq.teacher.cache.share import ALL, Share


@given(st.integers(1, 6), st.integers(0, 5 * store.PAIRS_PER_SHARD))
def test_shares_part_the_files(of, pairs):
    indices = np.arange(0, pairs, 1000)
    shares = [Share(number, of).has(indices) for number in range(1, of + 1)]
    assert (np.sum(shares, axis=0) == 1).all()
    files = [set(indices[share] // store.PAIRS_PER_SHARD) for share in shares]
    assert sum(map(len, files)) == len(set().union(*files))
    assert ALL.has(indices).all()


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/", "-1/2"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text} is no share"):
        Share.parse(text)
    assert str(Share.parse("2/3")) == "2/3"
