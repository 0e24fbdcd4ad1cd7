"""Checkpoints, each damaged or hostile in another way: an error of one line, or equal contents.

What is damaged at random is damaged by fixed seeds.
"""

import contextlib
import io
import pickle
import random
import struct
import time
import zipfile
from collections.abc import Mapping, Sequence

import pytest
import torch
from fairseq import checkpoint_utils

from ka_fairseq.errors import UserError

pytestmark = pytest.mark.older

# -- damage: from the bytes of a whole file to those of a damaged one ------------------------------


def a_bit_flipped(whole, chance):
    return flipped(whole, chance.randrange(len(whole)), chance)


def a_bit_of_a_weight_flipped(whole, chance):
    """In the middle of one of the parts that are tensors; torch.load itself does not notice."""
    parts = zipfile.ZipFile(io.BytesIO(whole)).infolist()
    part = chance.choice([part for part in parts if "/data/" in part.filename and part.file_size])
    # After the part's own header come its name, and what aligns it: so much that the header says.
    header = part.header_offset
    after = sum(struct.unpack_from("<HH", whole, header + 26))
    return flipped(whole, header + 30 + after + part.file_size // 2, chance)


def a_bit_of_the_pickle_flipped(whole, chance):
    return flipped(whole, chance.randrange(100, 40_000), chance)


def flipped(whole, place, chance):
    return whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :]


def bytes_overwritten(whole, chance):
    """In the pickle, most of them, which is at the front."""
    damaged = bytearray(whole)
    for _ in range(chance.randint(1, 30)):
        damaged[chance.randrange(20_000)] = chance.randrange(256)
    return bytes(damaged)


def cut_off(whole, chance):
    return whole[: chance.randrange(len(whole))]


def cut_off_near_the_end(whole, chance):
    return whole[: -chance.randrange(1, 200)]


def emptied(whole, chance):
    return bytes(chance.choice([0, 1, 4, 22, 4096]))


def a_stretch_of_zeros(whole, chance):
    """As after a power failure: the length is there, the contents never came to the disk."""
    start = chance.randrange(len(whole))
    length = min(4096 * chance.randrange(1, 9), len(whole) - start)
    return whole[:start] + bytes(length) + whole[start + length :]


def a_stretch_lost(whole, chance):
    start = chance.randrange(len(whole) - 4096)
    return whole[:start] + whole[start + chance.randrange(1, 4096) :]


def something_before(whole, chance):
    return chance.randbytes(chance.randrange(1, 100)) + whole


def something_behind(whole, chance):
    return whole + chance.randbytes(chance.randrange(1, 100))


def without_its_directory(whole, chance):
    return whole[: whole.rindex(b"PK\x05\x06")] + chance.randbytes(22)


def parts_left_out(whole, chance):
    return zipped_anew(whole, lambda name, content: None if chance.random() < 0.2 else content)


def parts_of_other_lengths(whole, chance):
    def shorter(name, content):
        return content[: len(content) // 2] if name.endswith(f"/data/{number}") else content

    number = chance.randrange(50)
    return zipped_anew(whole, shorter)


def a_pickle_cut_off(whole, chance):
    def shorter(name, content):
        return content[: chance.randrange(len(content))] if is_pickle(name) else content

    return zipped_anew(whole, shorter)


def a_pickle_of_noise(whole, chance):
    def noise(name, content):
        return chance.randbytes(1000) if is_pickle(name) else content

    return zipped_anew(whole, noise)


def zipped_anew(whole, change):
    """A zip file in good order, with other parts in it."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(target, "w") as new:
        for part in old.infolist():
            content = change(part.filename, old.read(part))
            if content is not None:
                new.writestr(part.filename, content)
    return target.getvalue()


def is_pickle(name):
    return name.endswith("/data.pkl")


# How many files of each kind.
DAMAGE = {
    a_bit_flipped: 22,
    a_bit_of_a_weight_flipped: 20,
    a_bit_of_the_pickle_flipped: 20,
    bytes_overwritten: 20,
    cut_off: 20,
    cut_off_near_the_end: 10,
    emptied: 5,
    a_stretch_of_zeros: 10,
    a_stretch_lost: 10,
    something_before: 5,
    something_behind: 5,
    without_its_directory: 5,
    parts_left_out: 5,
    parts_of_other_lengths: 5,
    a_pickle_cut_off: 5,
    a_pickle_of_noise: 5,
}
# Of these none loads; of the others one may, if it loads as it was.
FATAL = (a_bit_of_a_weight_flipped, a_bit_of_the_pickle_flipped, cut_off, emptied, a_stretch_lost)


# -- hostile: pickles that make a file where they are run ------------------------------------------


def calls(victim, script):
    """Functions that make a file of one argument, and that argument."""
    script.write_text(f"open({str(victim)!r}, 'w')", encoding="utf-8")
    shell, python = f"touch '{victim}'", f"open({str(victim)!r}, 'w').close()"
    inner = b"cos\nsystem\n" + text(shell) + b"\x85R."
    return {
        "os system": shell,
        "posix system": shell,
        "os mkdir": str(victim),
        "os popen": shell,
        "subprocess getoutput": shell,
        "builtins eval": python,
        "builtins exec": python,
        "__builtin__ eval": python,
        "os makedirs": str(victim),
        "runpy run_path": str(script),
        "pickle loads": inner,
        "_pickle loads": inner,
    }


def text(value):
    """The opcodes that push a string, or bytes."""
    opcode = b"B" if isinstance(value, bytes) else b"X"
    raw = value if isinstance(value, bytes) else value.encode()
    return opcode + len(raw).to_bytes(4, "little") + raw


# Each pushes what function(argument) returns.
FORMS = {
    "REDUCE": lambda module, name, argument: (
        f"c{module}\n{name}\n".encode() + text(argument) + b"\x85R"
    ),
    "STACK_GLOBAL": lambda module, name, argument: (
        text(module) + text(name) + b"\x93" + text(argument) + b"\x85R"
    ),
    "INST": lambda module, name, argument: b"(" + text(argument) + f"i{module}\n{name}\n".encode(),
    "OBJ": lambda module, name, argument: f"(c{module}\n{name}\n".encode() + text(argument) + b"o",
}


def alone(whole, call):
    return call + b"."


def in_place_of_the_pickle(whole, call):
    return zipped_anew(whole, lambda name, old: call + b"." if is_pickle(name) else old)


def in_front_of_the_pickle(whole, call):
    """What follows is the whole checkpoint: run, it would load as if nothing had been."""
    return zipped_anew(whole, lambda name, old: planted(old, call) if is_pickle(name) else old)


def before_zip(whole, call):
    """In the format of torch before 1.6."""
    target = io.BytesIO()
    state = torch.load(io.BytesIO(whole), weights_only=True)
    torch.save({"model": state["model"]}, target, _use_new_zipfile_serialization=False)
    return planted(target.getvalue(), call)


def planted(pickled, call):
    return pickled[:2] + call + b"0" + pickled[2:]  # behind PROTO; POP what the call returned


PLACES = (alone, in_place_of_the_pickle, in_front_of_the_pickle, before_zip)


# -- the tests -------------------------------------------------------------------------------------


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, Sequence) and not isinstance(one, str):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def load(path):
    return checkpoint_utils.load_checkpoint_to_cpu(str(path))


def assert_refused(path, says=""):
    with pytest.raises(UserError) as error:
        load(path)
    message = str(error.value)
    assert "\n" not in message and message.startswith("error: ") and str(path) in message
    assert says in message


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_refused_or_loads_as_it_was(tmp_path, teacher_file, damage):
    whole, path, chance = teacher_file.read_bytes(), tmp_path / "damaged.pt", random.Random(1)
    expected = load(teacher_file)
    for _ in range(DAMAGE[damage]):
        path.write_bytes(damage(whole, chance))
        assert path.read_bytes() != whole
        try:
            loaded = load(path)
        except UserError:
            assert_refused(path)
        else:
            assert damage not in FATAL and same(loaded, expected)


def test_torch_itself_takes_a_flipped_bit_for_a_weight(tmp_path, teacher_file):
    """Why checksums are read here. Where this fails, torch does it, and compat need not."""
    path = tmp_path / "damaged.pt"
    path.write_bytes(a_bit_of_a_weight_flipped(teacher_file.read_bytes(), random.Random(1)))
    state = torch.load(path, weights_only=True)
    assert not same(state, torch.load(teacher_file, weights_only=True))
    assert_refused(path, "does not match its checksum; replace it")


@pytest.mark.parametrize("form", FORMS)
def test_what_is_planted_would_run(tmp_path, form):
    victim = tmp_path / "ran"
    for function, argument in calls(victim, tmp_path / "script.py").items():
        pickle.loads(b"\x80\x02" + FORMS[form](*function.split(), argument) + b".")
        wait_for(victim)
        victim.rmdir() if victim.is_dir() else victim.unlink()


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_it_would_run_where_it_is_planted(tmp_path, teacher_file, place):
    victim, path = tmp_path / "ran", tmp_path / "hostile.pt"
    call = FORMS["REDUCE"]("os", "mkdir", str(victim))
    path.write_bytes(place(teacher_file.read_bytes(), call))
    with contextlib.suppress(RuntimeError, TypeError, pickle.UnpicklingError):
        torch.load(path, weights_only=False)
    assert victim.exists()


def wait_for(path):
    for _ in range(500):  # os.popen does not wait for its command
        if path.exists():
            return
        time.sleep(0.02)
    pytest.fail(f"nothing made {path}")


@pytest.mark.parametrize("form", FORMS)
def test_a_hostile_file_is_refused_and_nothing_of_it_runs(tmp_path, teacher_file, form):
    whole, path, victim = teacher_file.read_bytes(), tmp_path / "hostile.pt", tmp_path / "ran"
    for number, (function, argument) in enumerate(calls(victim, tmp_path / "script.py").items()):
        call = FORMS[form](*function.split(), argument)
        path.write_bytes(PLACES[number % len(PLACES)](whole, call))
        assert_refused(path)
        assert not victim.exists()
