"""A pipeline that ran to its end, made once for this folder's tests; they leave it as it is."""

from __future__ import annotations

import pytest

from tests import killing
from tests.pipeline import project as projects

NAME = 'Jörgs "alter" Rechner\'s, (2)'


@pytest.fixture(scope="session")
def finished(made_once) -> projects.Project:
    """A user's own corpus and configs, in folders that need quoting, after every stage.

    They run in one go, one after the other. The folder ``tmp`` beside the project is where its
    temporary files were.
    """

    def fill(folder):
        (folder / "tmp").mkdir()
        project = projects.make(folder / NAME)
        watched = killing.watched(project.run_dir, project.trace)
        project.pipeline("--jobs", 1, TMPDIR=str(folder / "tmp"), **watched)

    return projects.Project(made_once("finished", fill) / NAME)


@pytest.fixture(scope="session")
def fine_tuned(finished, made_once) -> projects.FineTuned:
    """The project's learner fine-tuned by fairseq-train, in one go."""

    def fill(folder):
        watched = killing.watched(folder / "learner", folder / "trace")
        printed = finished.fine_tune(folder / "learner", **watched)
        (folder / "printed").write_text(printed, encoding="utf-8")

    home = made_once("fine-tuned", fill)
    printed = (home / "printed").read_text(encoding="utf-8")
    return projects.FineTuned(home / "learner", printed, home / "trace")
