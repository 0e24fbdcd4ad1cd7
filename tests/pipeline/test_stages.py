from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from pipeline import stages
from pipeline.engine import commands, files, schedule, state
from pipeline.engine.devices import WHOLE
from pipeline.engine.errors import PipelineError
from pipeline.engine.stage import Stage
from pipeline.models import settings, training
from pipeline.results import evaluate

SCRIPTS = str(settings.REPOSITORY / "scripts")
# Locks a folder, and runs a command that says its process id and waits.
HOLD_LOCK = """
import pathlib, sys
from pipeline.engine import commands, state
folder = pathlib.Path(sys.argv[1])
child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
with state.locked(folder):
    commands.run([sys.executable, "-c", child], folder / "log", lambda l: print(l, flush=True))
"""


class Spy:
    """A stage that counts what happens to it."""

    def __init__(self, fails=False, begun=True, cheap=False):
        self.settings = {"size": 1}
        self.runs = 0
        self.clears = 0
        self.fails = fails
        self.stage = Stage(
            "spy",
            self.run,
            lambda slot: self.settings,
            clear=self.clear,
            begun=lambda: begun,
            cheap=cheap,
        )

    def run(self, slot):
        self.runs += 1
        if self.fails:
            raise PipelineError("the disk is full")
        return {"found": self.runs}

    def clear(self):
        self.clears += 1


def test_a_stage_runs_once(pair, capsys):
    spy = Spy()
    spy.stage.execute(pair.files)
    spy.stage.execute(pair.files)
    assert spy.runs == 1
    assert capsys.readouterr().out == "spy: done already\n"
    record = state.read(pair.files.run_dir, "spy")
    assert record.done
    assert record.facts == {"found": 1}


def test_force_redoes_a_stage(pair):
    spy = Spy()
    spy.stage.execute(pair.files)
    spy.stage.execute(pair.files, force=True)
    assert (spy.runs, spy.clears) == (2, 1)


def test_a_failure_says_which_stage_and_why_and_is_tried_again(pair):
    spy = Spy(fails=True)
    pair.files.log("spy").parent.mkdir(parents=True)
    pair.files.log("spy").touch()
    with pytest.raises(PipelineError) as error:
        spy.stage.execute(pair.files)
    assert str(error.value) == f"stage spy failed: the disk is full (log: {pair.files.log('spy')})"
    spy.fails = False
    spy.stage.execute(pair.files)
    assert (spy.runs, spy.clears) == (2, 0)


@pytest.mark.parametrize("fails", [True, False])
def test_other_settings_are_neither_mixed_in_nor_a_reason_to_throw_work_away(pair, fails):
    spy = Spy(fails)
    if fails:
        with pytest.raises(PipelineError):
            spy.stage.execute(pair.files)
    else:
        spy.stage.execute(pair.files)
    spy.settings = {"size": 2}
    with pytest.raises(PipelineError, match=r"size: 1 -> 2.*--force spy") as error:
        spy.stage.execute(pair.files)
    assert ("begun" if fails else "made") in str(error.value)
    assert spy.runs == 1


def test_a_failure_that_left_nothing_allows_other_settings(pair):
    spy = Spy(fails=True, begun=False)
    with pytest.raises(PipelineError):
        spy.stage.execute(pair.files)
    spy.fails, spy.settings = False, {"size": 2}
    spy.stage.execute(pair.files)
    assert state.read(pair.files.run_dir, "spy").inputs == {"size": 2}


def test_what_is_cheap_is_made_anew_with_other_settings(pair):
    spy = Spy(cheap=True)
    spy.stage.execute(pair.files)
    spy.settings = {"size": 2}
    spy.stage.execute(pair.files)
    spy.stage.execute(pair.files)
    assert (spy.runs, spy.clears) == (2, 1)
    assert state.read(pair.files.run_dir, "spy").inputs == {"size": 2}


def test_what_has_no_inputs_is_made_whenever_it_is_asked_for(pair):
    spy = Spy()
    stage = replace(spy.stage, inputs=None)
    stage.execute(pair.files)
    stage.execute(pair.files)
    assert spy.runs == 2
    assert state.read(pair.files.run_dir, "spy") is None


def done(pair, *names):
    for name in names:
        state.write(pair.files.run_dir, name, state.Record({}, done=True))


def chosen(pair, *words):
    return [stage.name for stage in stages.chosen(pair, stages.named(pair, words))]


def test_a_stage_needs_the_ones_before(pair):
    with pytest.raises(PipelineError, match=r"^kd needs binarize, which is not done: run"):
        stages.table(pair)["kd"].execute(pair.files)


def test_a_kind_with_nothing_to_work_on_is_refused(pair):
    with pytest.raises(PipelineError, match=r"^evaluate needs a trained model"):
        chosen(pair, "evaluate")
    with pytest.raises(PipelineError, match=r"^export needs a trained model"):
        chosen(pair, "export")
    with pytest.raises(PipelineError, match=r"^report needs evaluate"):
        chosen(pair, "report")
    fixed = replace(pair, decoding=replace(pair.decoding, lenpen=0.7))
    done(fixed, "ka")
    with pytest.raises(
        PipelineError, match=r"^decoding\.lenpen of demo is a number: lenpen chooses none"
    ):
        chosen(fixed, "lenpen")


def test_what_a_named_stage_needs_and_is_not_done_runs_first(pair):
    before = ["prepare", "binarize", "teacher", "cache.teacher"]
    results = ["lenpen.teacher", "lenpen.ka", "evaluate.teacher", "evaluate.ka"]
    assert chosen(pair, "ka", "evaluate") == [*before, "ka", *results]
    assert stages.named(pair, ["ka", "evaluate"]) == {"ka", "evaluate.teacher", "evaluate.ka"}
    done(pair, "prepare", "binarize")
    state.write(pair.files.run_dir, "teacher", state.Record({}))  # begun
    assert chosen(pair, "evaluate.ka") == [*before[2:], "ka", "lenpen.ka", "evaluate.ka"]


def test_a_default_model_brings_what_it_starts_from(pair):
    models = (replace(model, default=model.name == "kd_both") for model in pair.models)
    names = chosen(replace(pair, models=tuple(models)))
    assert {"learner", "junior", "kd_junior", "evaluate.kd_junior"} <= set(names)
    assert not {"kd", "evaluate.kd"} & set(names)


def test_shares_are_of_what_default_models_need(pair):
    shared = [stage.name for stage in stages.shared(pair, ["cache"])]
    assert shared == ["cache.teacher", "cache.teacher.closest"]
    (named,) = stages.shared(pair, ["cache.junior"])
    assert named.share is not None


def test_without_a_word_all_stages_are_chosen(pair):
    everything = replace(pair, everything=True)
    assert chosen(everything) == list(stages.table(pair))
    kinds = list(dict.fromkeys(map(stages.group, chosen(everything))))
    assert kinds == stages.names(pair.models)


def test_models_that_are_not_trained_by_default_are_left_out(pair):
    left = stages.table(pair).keys() - set(chosen(pair))
    texts = {"text.best", "text.mbr"}
    assert left >= {*texts, "cache.teacher.best", "seq_kd", "evaluate.seq_kd"}
    default = {"translate.teacher", "text.closest", "cache.teacher.closest", "seq_inter_kd"}
    assert not left & default
    others = {model.name for model in pair.models if not model.default}
    kinds = {"translate", "text", "cache", *others}
    assert {name for name in left if stages.group(name) not in kinds} == {
        f"{kind}.{model}" for model in others for kind in ("lenpen", "evaluate", "export")
    }
    done(pair, "seq_kd")  # then it has its row, all the same
    assert "evaluate.seq_kd" in chosen(pair) and "seq_kd" not in chosen(pair)


def test_each_stage_comes_after_those_that_it_needs(pair):
    table = stages.table(pair)
    for n, stage in enumerate(table.values()):
        assert {*stage.needs, *stage.after} <= set(list(table)[:n])
    fine_tunings = ("kd", "ka", "mixture", "topk")
    assert all("cache.teacher" in table[name].needs for name in fine_tunings)
    assert "cache.teacher" not in table["control"].needs


def test_models_that_are_done_or_will_be_are_evaluated(pair):
    done(pair, "prepare", "binarize", "teacher", "learner")
    models = ("teacher", "learner", "control")
    chosen_for = [f"lenpen.{model}" for model in models]
    for kind in ("evaluate", "export"):
        expected = ["control", *chosen_for, *(f"{kind}.{model}" for model in models)]
        assert chosen(pair, "control", kind) == expected
    expected = ["lenpen.learner", "evaluate.learner", "report"]
    assert chosen(pair, "evaluate.learner", "report") == expected


def test_the_cache_is_filled_before_the_training_that_reads_it(pair):
    done(pair, "binarize", "teacher", "learner")
    assert chosen(pair, "control", "kd") == ["control", "cache.teacher", "kd"]
    done(pair, "cache.teacher")
    assert chosen(pair, "kd") == ["kd"]


def test_the_cache_of_a_teacher_that_is_made_again_is_filled_again(pair):
    done(pair, "prepare", "binarize", "learner")
    assert made(pair, "kd") == ["teacher", "cache.teacher", "kd"]
    assert made(pair, "kd") == []
    assert made(pair, "teacher", "kd", force=True) == ["teacher", "cache.teacher", "kd"]
    assert made(pair, "teacher", force=True) == ["teacher"]
    assert made(pair, "ka") == ["cache.teacher", "ka"]


def made(pair, *words, force=False):
    """Run stages that write no more than a teacher; return those that ran, in their order."""
    ran = []

    def tiny(stage):
        def run(slot):
            ran.append(stage.name)
            files.write_text(pair.files.best_checkpoint(stage.name), "the same weights")
            return {}

        return replace(stage, run=run)

    targets = stages.named(pair, words)
    forced = targets if force else ()
    found = [tiny(stage) for stage in stages.chosen(pair, targets, forced)]
    schedule.run(pair.files, found, [WHOLE], force=forced)
    return ran


def test_a_model_brings_the_stages_that_serve_it_alone(pair):
    done(pair, "prepare", "binarize", "teacher", "learner", "seq_kd")
    served = ["translate.teacher", "text.best", "cache.teacher.best", "seq_kd_ka"]
    assert chosen(pair, "seq_kd_ka") == served
    own = ["translate.teacher", "text.closest", "cache.teacher.closest"]  # of seq_inter_kd
    assert chosen(pair, "cache") == ["cache.teacher", *own]
    assert chosen(pair, "translate") == ["translate.teacher"]
    done(pair, "translate.teacher", "text.best", "cache.teacher.best")
    assert chosen(pair, "seq_kd_ka") == ["seq_kd_ka"]


def test_a_pair_without_a_cache_has_no_stage_for_it(tmp_path):
    pair = settings.load(settings.CONFIGS / "wmt17_de_en", tmp_path)
    assert not any(name.startswith("cache") for name in chosen(pair))
    pair = replace(pair, models=pair.default_models)
    with pytest.raises(PipelineError, match=r"wmt17_de_en has task\.teacher_cache"):
        chosen(pair, "cache")


def test_another_teacher_makes_a_done_fine_tuning_stale(pair):
    for name in ("binarize", "learner", "teacher"):
        state.write(pair.files.run_dir, name, state.Record({"lr": 1}, done=True))
    training = next(training for training in stages.trainings(pair) if training.name == "kd")
    inputs = state.canonical(training.inputs(pair, WHOLE))
    state.write(pair.files.run_dir, "kd", state.Record(inputs, done=True))
    done(pair, "cache.teacher")
    stages.table(pair)["kd"].execute(pair.files)
    state.write(pair.files.run_dir, "teacher", state.Record({"lr": 2}, done=True))
    with pytest.raises(PipelineError, match="from teacher"):
        stages.table(pair)["kd"].execute(pair.files)


def test_another_teacher_empties_its_cache(pair):
    done(pair, "binarize")
    inputs = []
    for weights in ("those of one", "those of another"):
        files.write_text(pair.files.best_checkpoint("teacher"), weights)
        inputs.append(stages.table(pair)["cache.teacher"].inputs(WHOLE))
    assert {key for key in inputs[0] if inputs[0][key] != inputs[1][key]} == {"teacher"}
    reader = next(training for training in stages.trainings(pair) if training.teacher)
    assert inputs[0]["dataset.max_tokens"] == reader.resolved(pair)["dataset.max_tokens"]


def test_paths_and_logging_are_no_inputs(pair):
    inputs = stages.trainings(pair)[3].inputs(pair, WHOLE)
    assert inputs["criterion._name"] == "forward_kl"
    assert not any(key.startswith(("hydra", "checkpoint.save_dir", "task.data")) for key in inputs)


def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.md"
    files.write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), files.written_whole(path) as temporary:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old"


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for name in ("old", "new"):
        with files.written_whole(tmp_path / "bin") as folder:
            folder.mkdir()
            (folder / name).touch()
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_a_second_pipeline_is_kept_out(tmp_path):
    with state.locked(tmp_path):
        command = [sys.executable, "-c", HOLD_LOCK, str(tmp_path)]
        result = subprocess.run(
            command, capture_output=True, text=True, env={"PYTHONPATH": SCRIPTS}, check=False
        )
    assert "another pipeline, or a training that it left behind, is at work" in result.stderr
    with state.locked(tmp_path):
        pass


def test_a_training_that_outlives_its_pipeline_keeps_the_next_one_out(tmp_path):
    command = [sys.executable, "-c", HOLD_LOCK, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": SCRIPTS})
    left_behind = int(process.stdout.readline())
    process.kill()
    process.wait()
    try:
        with pytest.raises(PipelineError, match="is at work"), state.locked(tmp_path):
            pass
    finally:
        os.kill(left_behind, signal.SIGKILL)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("print('fine'); raise ValueError('the teacher is too large')", "the teacher is too large"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL (too little memory?)"),
        ("print('error: no such file'); raise SystemExit(2)", "error: no such file"),
    ],
)
def test_a_failing_command_says_why(tmp_path, code, says):
    lines = []
    log = tmp_path / "logs" / "kd.log"
    with pytest.raises(PipelineError) as error:
        commands.run([sys.executable, "-c", code], log, lines.append)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert log.read_text().splitlines()[1:] == lines


def test_progress_reads_fairseqs_records(capsys):
    with training.Progress("kd", {"optimization.max_update": 40}) as progress:
        progress.on_line("[2026-11-21][fairseq_cli.train][INFO] - Start iterating over samples")
        record = {"epoch": 1, "update": 0.5, "loss": "4.2", "num_updates": "20"}
        progress.on_line("[2026-11-21][train_inner][INFO] - " + json.dumps(record))
        record = {"epoch": 1, "valid_bleu": "7.5", "valid_num_updates": "40"}
        progress.on_line("[2026-11-21][valid][INFO] - " + json.dumps(record))
        progress.on_line('[2026-11-21][valid][INFO] - {"epoch": 1, "valid_bl')
    last = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert "40/40 updates" in last
    assert "valid BLEU=7.5" in last


def test_a_translation_left_out_is_an_error(pair, monkeypatch):
    files.write_lines(pair.files.model("kd"), ["weights"])
    files.write_lines(pair.files.text_dir / "test.en", ["one", "two", "three"])
    monkeypatch.setattr(
        commands,
        "run",
        lambda command, log, on_line, slot: [on_line(f"D-{n}\t-1\tx") for n in (2, 0)],
    )
    with pytest.raises(PipelineError, match=r"kd translated 2 of 3 sentences.*line 2 of the test"):
        evaluate.evaluate_model(pair, WHOLE, "kd")
