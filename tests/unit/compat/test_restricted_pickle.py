"""The unpickler for old torch: it reads what Python's own reads, and runs nothing."""

import argparse
import io
import os
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.compat.restricted_pickle import restricted_to

pytestmark = pytest.mark.older

ALLOWED = {"collections.OrderedDict": OrderedDict, "argparse.Namespace": argparse.Namespace}

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.dictionaries(st.text(), inner).map(OrderedDict)
        | inner.map(lambda value: argparse.Namespace(option=value))
    ),
    max_leaves=20,
)


def load(data):
    return restricted_to(ALLOWED).load(io.BytesIO(data))


@given(plain)
def test_plain_contents_survive(content):
    assert load(pickle.dumps(content, protocol=2)) == content


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: {"model": x}])
def test_a_planted_call_does_not_run(tmp_path, protocol, wrap):
    victim = tmp_path / "ran"
    for call in (Call(os.mkdir, str(victim)), Call(eval, f"__import__('os').mkdir({victim!s})")):
        with pytest.raises(pickle.UnpicklingError):
            load(pickle.dumps(wrap(call), protocol=protocol))
        assert not victim.exists()


def pushes(text):
    return pickle.BINUNICODE + len(text).to_bytes(4, "little") + text.encode()


NAMESPACE = b"cargparse\nNamespace\n"
ATTACKS = {
    "an attribute of something allowed": b"cargparse\nNamespace.__init__\n.",
    "a module of something allowed": b"cargparse\n_sys.modules\n.",
    "a class's state": NAMESPACE + b"N}" + pushes("x") + b"Ns\x86b.",
    "a call of what was made": NAMESPACE + b")\x81)R.",
    "an item of what was made": NAMESPACE + b")\x81" + pushes("x") + b"Ns.",
    "append to what was made": NAMESPACE + b")\x81Na.",
    "extend what was made": NAMESPACE + b")\x81(Ne.",
    "items of what was made": NAMESPACE + b")\x81(" + pushes("x") + b"Nu.",
    "protocol 0's way to make an object": b"(ios\nmkdir\n.",
    "its other way": b"(" + NAMESPACE + b"o.",
    "an extension": b"\x82\x01.",
    "a name from the stack": pushes("os") + pushes("mkdir") + b"\x93.",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_each_step_that_could_run_code_is_refused(attack):
    list(pickletools.genops(attack))  # a pickle it is
    with pytest.raises(pickle.UnpicklingError):
        load(attack)


def test_the_error_names_what_is_foreign():
    with pytest.raises(pickle.UnpicklingError, match=r"GLOBAL pathlib\.\w+ was not an allowed"):
        load(pickle.dumps(Path("x"), protocol=2))
