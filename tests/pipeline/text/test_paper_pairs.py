"""Both pairs of the paper from archives in their releases' layout to the table, at toy size."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from pipeline import sweep
from pipeline.__main__ import main
from pipeline.engine import commands
from pipeline.models import settings, training_log

from tests import forking
from tests.pipeline import releases

pytestmark = [pytest.mark.slow, pytest.mark.extended]

TINY = {
    "optimization.max_update": 4,
    "optimization.update_freq": [2],
    "dataset.max_tokens": 400,
    "dataset.num_workers": 0,
    "common.log_interval": 1,
    "task.eval_bleu_args": '{"beam": 1, "max_len_a": 0, "max_len_b": 10}',
    "model.encoder_layers": 1,
    "model.decoder_layers": 1,
    "model.encoder_embed_dim": 16,
    "model.decoder_embed_dim": 16,
    "model.encoder_ffn_embed_dim": 16,
    "model.decoder_ffn_embed_dim": 16,
    "model.encoder_attention_heads": 2,
    "model.decoder_attention_heads": 2,
}
STAGES_AFTER = ("evaluate", "export", "speed", "report")
# What differs between the pairs is their text: test_end_to_end.py trains with the other methods.
STAGES = {
    "wmt17_de_en": ("teacher", "learner", "control", "ka"),
    "iwslt15_th_en": ("teacher", "learner", "topk"),
}


@dataclass
class Project:
    name: str
    home: Path
    archives: Path

    def run(self, *words: str) -> int:
        words = (self.name, *words, "--quick", "--runs", str(self.home / "runs"))
        return main([*words, "--archives", str(self.archives)])

    @property
    def trainings(self) -> tuple[str, ...]:
        return STAGES[self.name]

    def run_all(self) -> int:
        return self.run("prepare", "binarize", *self.trainings, *STAGES_AFTER)

    @property
    def folder(self) -> Path:
        return self.home / "runs" / f"{self.name}-quick"


MAKE = {"wmt17_de_en": releases.wmt17, "iwslt15_th_en": releases.iwslt15}
SEGMENTATION = {
    "wmt17_de_en": {"symbols": 150, "vocabulary_threshold": 2},
    "iwslt15_th_en": {"vocab_size": 200},
}


@pytest.fixture(scope="module", params=list(STAGES))
def project(request, tmp_path_factory):
    """A project after its stages."""
    name = request.param
    home = tmp_path_factory.mktemp(name)
    archives = MAKE[name](home / "archives")
    releases.pair_of(name, archives, home, segmentation=SEGMENTATION[name], training=TINY)
    project = Project(name, home, archives)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "CONFIGS", home / "configs")
        # The trainings run in processes of their own, with nothing but these to tell them where.
        paths = [str(settings.REPOSITORY), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(commands, "fairseq_module", forking.module_line)
        assert project.run_all() == 0
        yield project


def test_the_table_has_every_model(project):
    content = json.loads((project.folder / "report.json").read_text(encoding="utf-8"))
    assert [row["model"] for row in content["models"]] == list(project.trainings)
    assert "tok:13a" in content["tests"][0]["signatures"]["BLEU"]
    for row in content["models"]:
        assert row["export"]["megabytes"] > 0 and row["lenpen"] == [1.0]  # the paper's
    points = [
        (point["model"], point["beam"]) for point in content["operating_points"]["test"]["rows"]
    ]
    assert points == [(name, beam) for name in project.trainings for beam in (6, 1)]


def test_translations_are_detokenized(project):
    found = [project.folder / "evaluate" / f"{name}.en" for name in ("learner", "export.learner")]
    text = "".join(path.read_text(encoding="utf-8") for path in found)
    assert "@@" not in text
    assert "&apos;" not in text
    assert "▁" not in text


def test_another_start_does_nothing_again(project, capsys):
    assert project.run_all() == 0
    said = set(capsys.readouterr().out.splitlines())
    results = [f"{stage}.{n}" for stage in ("evaluate", "export") for n in project.trainings]
    for name in ("prepare", "binarize", *project.trainings, *results, "speed"):
        assert f"{name}: done already" in said


@pytest.mark.parametrize("project", ["iwslt15_th_en"], indirect=True)
def test_a_sweep_tries_what_it_is_told(project, capsys):
    words = [project.name, "--quick", "--runs", str(project.home / "runs"), "--weights", "0.3"]
    assert sweep.main([*words, "--criterions", "ka", "--top-k", "2"]) == 0
    assert sweep.main([*words, "--criterions", "kd,ka", "--top-k", "2"]) == 0
    assert "sweep/ka-weight0.3-k2: done already" in capsys.readouterr().out
    results = pd.read_csv(project.folder / "sweep" / "results.csv")
    columns = ["model", "criterion", "learning_rate", "transfer_weight", "top_k", "bleu"]
    assert results.columns.tolist() == columns
    assert results.model.tolist() == ["kd", "ka"]
    assert results.criterion.tolist() == ["forward_kl", "backward_kl"]
    assert results.top_k.tolist() == [2, 2]
    assert (project.folder / "sweep" / "best.png").stat().st_size > 10_000
    log = project.folder / "logs" / "sweep" / "ka-weight0.3-k2.log"
    assert "criterion.top_k=2" in log.read_text(encoding="utf-8")
    updates = [r["valid_num_updates"] for r in training_log.read(log) if "valid_bleu" in r]
    assert updates[-1] == "4"
