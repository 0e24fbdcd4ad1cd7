"""A comparison through its real command line: two methods, two seeds, two test sets, and a kill."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
from pipeline.engine import state
from pipeline.models import training_log

from tests import killing
from tests.pipeline.project import environment

pytestmark = [pytest.mark.slow, pytest.mark.extended]

SENTENCES = 25  # of the test set that is added: the first of validation


def test_a_comparison_that_was_killed_goes_on(finished, comet_score, tmp_path):
    corpus = shutil.copytree(finished.data, tmp_path / "Körper")
    for language in ("de", "en"):
        lines = (corpus / f"valid.{language}").read_text("utf-8").splitlines(keepends=True)
        (corpus / f"news.{language}").write_text("".join(lines[:SENTENCES]), "utf-8")
    compared = replace(finished.copied("runs that compare"), corpus=corpus)
    words = compared.command("--methods", "control", "ka", "--seeds", 2, "--test", "test", "news")
    words[0] = str(compared.checkout / "scripts" / "compare.sh")

    # In the second epoch of the second seed's KA, when its learner and its control are there; the
    # first seed's is there from before.
    moment = killing.Moment("log fairseq_cli.hydra_train/ka train_inner @35")
    one_by_one = [*words, "--jobs", "1"]
    killing.run_and_kill(one_by_one, environment(), compared.run_dir, moment)
    for name, done in {"learner": True, "control": True, "ka": False}.items():
        record = state.read(compared.run_dir, f"compare/2/{name}")
        assert record is not None and record.done == done
    output = compared.script(*one_by_one[1:], "--comet", "stand-in", script="compare.sh")
    for name in ("teacher", "learner", "ka", "compare/2/learner", "compare/2/control"):
        assert f"\n{name}: done already\n" in f"\n{output}"
    assert "\ncompare/2/ka: going on from its last checkpoint\n" in output

    content = json.loads((compared.run_dir / "compare" / "compare.json").read_text("utf-8"))
    report = json.loads((compared.run_dir / "report.json").read_text("utf-8"))
    (of_pair,) = ({row["model"]: row["bleu"] for row in t["rows"]} for t in report["tests"])
    test, news = content["tests"]
    assert [row["model"] for row in test["rows"]] == ["teacher", "learner", "control", "ka"]
    for row in test["rows"]:
        # The first seed is the pair's.
        assert row["bleu"]["by_seed"][0] == of_pair[row["model"]]["mean"]
    assert (news["name"], news["sentences"]) == ("news", SENTENCES)
    translations = compared.run_dir / "tests" / "news" / "evaluate" / "compare" / "2" / "ka.en"
    assert translations.read_text("utf-8").count("\n") == SENTENCES

    assert 0 < test["rows"][0]["comet"]["mean"] < 100
    segments = json.loads(translations.with_name("ka.en.comet.json").read_text("utf-8"))
    assert news["rows"][-1]["comet"]["by_seed"][1] == pytest.approx(100 * sum(segments) / SENTENCES)

    logs = [compared.log(name) for name in ("ka", "compare/2/ka")]
    losses = [training_log.by_epoch(training_log.read(log), "train_loss") for log in logs]
    assert losses[0].keys() == losses[1].keys() and losses[0] != losses[1]
    scores = pd.read_csv(compared.run_dir / "compare" / "scores.csv")
    assert len(scores) == 2 * (1 + 3 * 2)
    assert "Methods compared, over 2 seeds" in (compared.run_dir / "report.html").read_text("utf-8")
