"""What is packed is unpacked, as exactly as each way to keep it promises."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.teacher.cache.storage import STORAGES

NUMBERS = st.floats(-1e3, 1e3, width=32)
STATES = st.lists(st.lists(NUMBERS, min_size=4, max_size=4), min_size=1, max_size=5)


@pytest.mark.parametrize("name", STORAGES)
@given(rows=STATES)
def test_states_come_back(name, rows):
    storage, states = STORAGES[name], torch.tensor(rows)
    numbers, scales = storage.pack(states)
    assert numbers.shape == states.shape and scales.shape == (len(states), storage.scales)
    assert numbers.numpy().dtype == storage.numbers
    found = storage.unpack(numbers, scales)
    assert found.dtype == storage.dtype
    if storage.exact:
        assert torch.equal(found, states.to(storage.dtype))
    else:
        step = states.abs().amax(-1, keepdim=True) / 127
        rounding = 1e-3 * states.abs().amax(-1, keepdim=True)  # of fp16
        assert ((found.float() - states).abs() <= step / 2 + rounding + 1e-7).all()


def test_nothing_is_nothing():
    states = torch.zeros(2, 3)
    for storage in STORAGES.values():
        assert torch.equal(storage.unpack(*storage.pack(states)).float(), states)
