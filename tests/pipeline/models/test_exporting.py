"""Exports beside other stages: importing fairseq must not meet a config that is being read."""

import threading

import pytest
from pipeline.engine.errors import PipelineError
from pipeline.models import exporting
from pipeline.models.hydra_configs import ONE_AT_A_TIME


def test_fairseq_is_not_imported_while_a_config_is_read(tmp_path):
    """It registers its options with Hydra, which copies them for each config that it reads."""
    ended = threading.Event()

    def export():
        with pytest.raises(PipelineError, match="no checkpoint at"):
            exporting.export(tmp_path / "none.pt", tmp_path / "out.pt")
        ended.set()

    thread = threading.Thread(target=export)
    with ONE_AT_A_TIME:
        thread.start()
        assert not ended.wait(0.5)
    thread.join()
    assert ended.is_set()
