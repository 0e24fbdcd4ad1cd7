"""A pipeline that ran to its end, once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import killing
from tests.pipeline import project as projects


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> projects.Project:
    """A user's own corpus and configs, in folders that need quoting."""
    return projects.make(tmp_path_factory.mktemp('Jörgs "alter" Rechner\'s, (2)'))


@pytest.fixture(scope="session")
def temporary(tmp_path_factory) -> Path:
    """Where the finished project's temporary files were."""
    return tmp_path_factory.mktemp("tmp")


@pytest.fixture(scope="session")
def finished(project, temporary) -> projects.Project:
    """The project after every stage, run in one go, one after the other."""
    watched = killing.watched(project.run_dir, project.trace)
    project.pipeline("--jobs", 1, TMPDIR=str(temporary), **watched)
    return project


@pytest.fixture(scope="session")
def fine_tuned(finished, tmp_path_factory) -> projects.FineTuned:
    """The project's learner fine-tuned by fairseq-train, in one go."""
    home = tmp_path_factory.mktemp("fine-tuned")
    folder, trace = home / "learner", home / "trace"
    printed = finished.fine_tune(folder, **killing.watched(folder, trace))
    return projects.FineTuned(folder, printed, trace)
