"""The table over seeds, without a training; `finished` has one with trainings."""

from __future__ import annotations

import pytest
from pipeline import evaluate, seeds, stages, state
from pipeline.__main__ import main

from tests.pipeline.conftest import ROOT

BLEU = {"learner": 20.0, "control": 22.0, "kd": 24.0, "ka": 21.0, "mixture": 22.5, "topk": 22.0}


@pytest.fixture
def scored(pair):
    """Scores of three seeds: a tenth of a point more with each."""
    signatures = {"BLEU": "nrefs:1|case:mixed", "chrF": "nrefs:1"}

    def write(training, bleu):
        facts = {"bleu": bleu, "chrf": 2 * bleu, "length_ratio": 0.9, "signatures": signatures}
        state.write(pair.run_dir, evaluate.name(training), state.Record({}, done=True, facts=facts))

    write("teacher", 37.0)
    for seed, models in seeds.trainings(pair, 3).items():
        for model, training in models.items():
            lucky = 0.5 if (seed, model) == (2, "control") else 0
            write(training.name, BLEU[model] + 0.1 * (seed - 1) + lucky)
    return pair


def test_the_first_seed_is_the_pairs_own(pair):
    found = seeds.trainings(pair, 3)
    assert list(found) == [1, 2, 3]
    assert [training.name for training in found[1].values()] == list(BLEU)
    assert found[1]["ka"] in stages.trainings(pair)


def test_a_seed_covers_the_learner_and_what_starts_from_it(pair):
    models = seeds.trainings(pair, 2)[2]
    assert {training.start for training in models.values()} == {None, models["learner"].name}
    assert {training.teacher for training in models.values()} == {None, "teacher"}
    for name, training in models.items():
        ours, theirs = (t.inputs(pair) for t in (training, seeds.trainings(pair, 1)[1][name]))
        assert (ours["common.seed"], theirs["common.seed"]) == (2, 1)
        kept = ("common.seed", "checkpoint.no_epoch_checkpoints", "from ")
        assert {k: v for k, v in ours.items() if not k.startswith(kept)} == {
            k: v for k, v in theirs.items() if not k.startswith(kept)
        }


def test_every_stage_is_named_once_and_has_what_it_needs(pair):
    chosen = [*stages.chosen(pair, []), *seeds.table_of(pair, 3)]
    names = [stage.name for stage in chosen]
    assert len(set(names)) == len(names)
    assert not {need for stage in chosen for need in stage.needs} - set(names)


def test_mean_range_and_differences_within_a_seed(scored):
    table = seeds.summary(seeds.collect(scored, 3), scored.titles).set_index("model")
    assert table.BLEU["teacher"] == "37.0"
    assert table.BLEU["KD (forward KL)"] == "24.1 (24.0 to 24.2)"
    assert table.chrF["KD (forward KL)"] == "48.2 (48.0 to 48.4)"
    assert table.BLEU["control (NLL)"] == "22.3 (22.0 to 22.6)"
    # 24.0 − 22.0, 24.1 − 22.6 and 24.2 − 22.2
    assert table["BLEU − control's"]["KD (forward KL)"] == "+1.8 (+1.5 to +2.0)"
    assert table["BLEU − control's"]["KA (backward KL)"] == "-1.2 (-1.5 to -1.0)"
    assert table["BLEU − control's"]["control (NLL)"] == "–"


def test_the_table_is_written_with_its_numbers(scored):
    seeds.table_of(scored, 3)[-1].execute(scored)
    text = (scored.run_dir / "seeds.md").read_text(encoding="utf-8")
    assert "| KD (forward KL)" in text and "nrefs:1|case:mixed" in text
    rows = (scored.run_dir / "seeds.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "model,seed,bleu,chrf,length_ratio"
    assert len(rows) == 1 + 1 + 3 * len(BLEU)


def test_seeds_go_with_all_stages(tmp_path, capsys):
    words = ["demo", "kd", "--seeds", "3", "--runs", str(tmp_path)]
    assert main(words) == 1
    assert capsys.readouterr().err == "error: --seeds goes with all stages: name none\n"
    script = (ROOT / "scripts" / "demo.sh").read_text(encoding="utf-8")
    assert "--seeds 3" in script
