"""The shards on disk: what is written is read, and nothing else ever is."""

import logging
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ka_fairseq.errors import UserError
from ka_fairseq.teacher.cache import store as store_module
from ka_fairseq.teacher.cache.store import Layout, Record, Store

LENGTHS = np.array([3, 1, 7, 2, 5])
WIDTH, NUMBERS = 6, 2


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(store_module, "PAIRS_PER_SHARD", 2)


def record(pair, seed=0):
    generator = np.random.default_rng([seed, pair])
    length = LENGTHS[pair]
    return Record(
        generator.integers(-(2**15), 2**15, (length, WIDTH)).astype(np.int16),
        generator.standard_normal((length, NUMBERS)).astype(np.float32),
    )


def make(folder):
    store = Store(folder, LENGTHS, Layout(WIDTH, np.int16, NUMBERS))
    store.check_room()
    return store


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@settings(max_examples=25)
@given(order=st.permutations(range(5)), written=st.integers(0, 5))
def test_what_was_written_is_read_by_another_process_and_nothing_else(
    tmp_path_factory, order, written
):
    folder = tmp_path_factory.mktemp("store")
    store = make(folder)
    for pair in order[:written]:
        store.write(pair, 100 + pair, record(pair))
    for reader in (store, make(folder)):
        for pair in order[:written]:
            assert same(reader.read(pair, 100 + pair, LENGTHS[pair]), record(pair))
        for pair in order[written:]:
            assert reader.read(pair, 100 + pair, LENGTHS[pair]) is None


def test_other_tokens_or_another_length_are_refused(tmp_path):
    store = make(tmp_path)
    store.write(2, 7, record(2))
    for tokens, length in ((8, 7), (7, 6)):
        with pytest.raises(UserError, match="pair 2 of the dataset differs from the one"):
            store.read(2, tokens, length)


@pytest.mark.parametrize("part", ["hidden", "normalizers", "checksums"])
def test_every_damaged_byte_is_noticed(tmp_path, caplog, part):
    store = make(tmp_path)
    for pair in range(5):
        store.write(pair, pair, record(pair))
    file = tmp_path / f"00001.{part}"
    whole = file.read_bytes()
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        file.write_bytes(damaged)
        reader = make(tmp_path)
        noticed = 0
        with caplog.at_level(logging.WARNING):
            for pair in (2, 3):
                try:
                    found = reader.read(pair, pair, LENGTHS[pair])
                except UserError:
                    noticed += 1
                    continue
                noticed += found is None
                assert found is None or same(found, record(pair))
        assert noticed == 1
    file.write_bytes(whole)
    assert same(make(tmp_path).read(2, 2, 7), record(2))


def test_a_damaged_record_is_written_anew(tmp_path):
    store = make(tmp_path)
    store.write(1, 5, record(1, seed=1))
    with (tmp_path / "00000.hidden").open("r+b") as file:
        file.seek(2 * WIDTH * LENGTHS[0])
        file.write(b"xyz")
    store = make(tmp_path)
    assert store.read(1, 5, 1) is None
    store.write(1, 5, record(1))
    assert same(make(tmp_path).read(1, 5, 1), record(1))


def test_a_truncated_shard_is_no_record(tmp_path):
    store = make(tmp_path)
    store.write(4, 1, record(4))
    file = tmp_path / "00002.hidden"
    file.write_bytes(file.read_bytes()[:10])
    assert make(tmp_path).read(4, 1, 5) is None


def test_a_shard_of_another_size_is_refused(tmp_path):
    make(tmp_path).write(4, 1, record(4))
    file = tmp_path / "00002.hidden"
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(UserError, match=r"00002.hidden has 64 bytes, not 60: delete"):
        make(tmp_path).read(4, 1, 5)


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"needs 0.00 GB more, and the disk has 0.00 GB"):
        make(tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_room_that_goes_missing_later_is_told(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    store = make(tmp_path)
    monkeypatch.setattr(store_module.os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"cannot write .*hidden: No space left .*free some room"):
        store.write(0, 0, record(0))


def test_the_size_is_that_of_the_files(tmp_path):
    store = make(tmp_path)
    for pair in range(5):
        store.write(pair, pair, record(pair))
    assert store.size == sum(file.stat().st_size for file in tmp_path.iterdir())
