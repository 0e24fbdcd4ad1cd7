"""A record's checksum is compared once a run, in whichever process reads it first."""

import multiprocessing

import numpy as np
import pytest

from ka_fairseq.teacher.cache import store as store_module
from ka_fairseq.teacher.cache.store import Layout, Record, Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, np.array([2, 2]), Layout(3, np.int16, 1))


@pytest.fixture
def checksums(monkeypatch):
    """How often one was computed in this process."""
    computed = []

    def checksum(*arrays):
        computed.append(len(arrays))
        return 5

    monkeypatch.setattr(store_module, "checksum", checksum)
    return computed


def record():
    return Record(np.ones((2, 3), np.int16), np.ones((2, 1), np.float32))


def test_a_record_is_checked_when_it_is_first_read(store, checksums):
    store.write(0, 7, record())
    checksums.clear()
    for _ in range(3):
        assert store.read(0, 7, 2) is not None
    assert len(checksums) == 1


def test_what_a_data_worker_has_checked_the_next_one_takes(store, checksums):
    store.write(0, 7, record())
    worker = multiprocessing.get_context("fork").Process(target=store.read, args=(0, 7, 2))
    worker.start()
    worker.join()
    checksums.clear()
    assert store.read(0, 7, 2) is not None and not checksums


def test_what_is_written_is_checked_anew(store, checksums):
    store.write(0, 7, record())
    store.read(0, 7, 2)
    store.write(0, 7, record())
    checksums.clear()
    store.read(0, 7, 2)
    assert len(checksums) == 1


def test_a_damaged_record_is_found_again(store):
    """It is not taken for checked."""
    store.write(0, 7, record())
    store._locate(0)[0].hidden[0] = 9
    assert [store.read(0, 7, 2) for _ in range(2)] == [None, None]
