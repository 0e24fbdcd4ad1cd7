"""Exported checkpoints, in a fairseq that knows nothing of this package."""

import dataclasses
import re
import subprocess

import pytest
import torch
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY

from ka_fairseq.errors import UserError
from ka_fairseq.export import export
from tests.support import USER_DIR, quick_line, run, succeeded, train

NO_PADDING = ("--batch-size", 1)
"""With torch 1.13, fairseq 0.12.2 without this package evaluates no batch with padding in it."""


@pytest.fixture(scope="module")
def files(binarized, teacher_file, tmp_path_factory):
    """A learner of fairseq-train --user-dir, before and after export."""
    folder = tmp_path_factory.mktemp("export")
    train(
        binarized,
        folder,
        *("--task", "translation_with_teacher", "--teacher-path", teacher_file),
        *("--criterion", "topk_kl", "--label-smoothing", 0.1, "--max-update", 5),
    )
    target = folder / "exported.pt"
    run("python", "-m", "ka_fairseq.export", folder / "checkpoint_last.pt", target)
    return folder / "checkpoint_last.pt", target


def test_the_weights_stay_and_the_rest_goes(files):
    before, after = (torch.load(file, weights_only=True) for file in files)
    assert all(torch.equal(before["model"][key], after["model"][key]) for key in before["model"])
    assert before["model"].keys() == after["model"].keys()
    assert files[1].stat().st_size < 0.5 * files[0].stat().st_size
    assert "teacher" not in str(after["cfg"])
    assert after["cfg"]["criterion"]["label_smoothing"] == 0.1


def takes(config):
    """Whether the criterion that a configuration names, of plain fairseq, has all its options."""
    criterion = dict(config["criterion"])
    known = CRITERION_DATACLASS_REGISTRY[criterion.pop("_name")]
    return known.__module__.startswith("fairseq.") and criterion.keys() <= {
        option.name for option in dataclasses.fields(known)
    }


def test_fairseqs_own_criterion_takes_the_options(files):
    before, after = (torch.load(file, weights_only=False)["cfg"] for file in files)
    assert takes(after) and not takes(before)


def test_a_model_without_a_teacher_forgets_the_chunks(teacher_file, tmp_path):
    state = torch.load(teacher_file, weights_only=False)
    state["cfg"]["criterion"] |= {"_name": "chunked_cross_entropy", "loss_chunk_tokens": 64}
    state["cfg"]["common"]["user_dir"] = str(USER_DIR)
    torch.save(state, tmp_path / "chunked.pt")
    assert not takes(state["cfg"])
    export(tmp_path / "chunked.pt", tmp_path / "exported.pt")
    after = torch.load(tmp_path / "exported.pt", weights_only=True)["cfg"]
    assert takes(after) and after["task"]["_name"] == "translation"
    assert after["common"]["user_dir"] is None


def test_a_plain_model_without_a_criterion_stays_as_it_is(teacher_file, tmp_path):
    state = torch.load(teacher_file, weights_only=False)
    state["cfg"]["criterion"] = None
    torch.save(state, tmp_path / "old.pt")
    export(tmp_path / "old.pt", tmp_path / "exported.pt")
    after = torch.load(tmp_path / "exported.pt", weights_only=True)["cfg"]
    assert after["criterion"] is None and after["task"]["_name"] == "translation"


def test_half_of_it_names_no_folder(files, tmp_path):
    target = tmp_path / "half.pt"
    export(files[0], target, half=True, folders=False)
    before, after = (torch.load(file, weights_only=True) for file in (files[1], target))
    assert target.stat().st_size < 0.6 * files[1].stat().st_size
    for name, tensor in before["model"].items():
        assert torch.equal(after["model"][name], tensor.half())
    folders = (str(files[0].parent), str(USER_DIR.parent))
    assert any(folder in str(before["cfg"]) for folder in folders)
    assert not any(folder in str(after["cfg"]) for folder in folders)


def test_what_is_shared_stays_shared_in_half(teacher_file, tmp_path):
    target = tmp_path / "half.pt"
    export(teacher_file, target, half=True)
    groups = [
        {tensor.data_ptr() for tensor in torch.load(file, weights_only=True)["model"].values()}
        for file in (teacher_file, target)
    ]
    assert len(groups[0]) == len(groups[1])


def run_plain(command, *arguments):
    """A process that imports nothing of this package, but fairseq sooner than as it is typed."""
    words = quick_line(command, *arguments)
    return succeeded([subprocess.run(words, capture_output=True, text=True, check=False)])[0]


@pytest.mark.slow
def test_plain_generate_translates_the_same(files, binarized):
    common = ("--gen-subset", "valid", "--cpu", "--beam", 2, "--max-len-b", 3, *NO_PADDING)
    before = run("fairseq-generate", binarized, "--user-dir", USER_DIR, "--path", files[0], *common)
    after = run_plain("fairseq-generate", binarized, "--path", files[1], *common)
    said, said_again = (
        re.findall(r"^H-(\d+)\t(\S+)\t(.*)$", printed.stdout, re.M) for printed in (before, after)
    )
    assert said and [(i, text) for i, _, text in said] == [(i, text) for i, _, text in said_again]
    # Without this package, fairseq 0.12.2 encodes in another way, which rounds differently.
    scores = [[float(score) for _, score, _ in hypotheses] for hypotheses in (said, said_again)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


@pytest.mark.slow
@pytest.mark.extended
def test_plain_validate_and_train_take_it(files, binarized, tmp_path):
    run_plain(
        "fairseq-validate",
        binarized,
        *("--task", "translation", "--path", files[1], "--cpu", *NO_PADDING),
    )
    run_plain(
        "fairseq-train",
        binarized,
        *("--save-dir", tmp_path, "--cpu", "--arch", "transformer_tiny", "--max-tokens", 1000),
        *("--optimizer", "adam", "--lr", 0.001, "--max-update", 2),
        *("--finetune-from-model", files[1]),
    )


def test_what_cannot_be_exported(files, tmp_path):
    with pytest.raises(UserError, match="no checkpoint at"):
        export(tmp_path / "missing.pt", tmp_path / "out.pt")
    with pytest.raises(UserError, match="cannot be written"):
        export(files[0], files[0] / "out.pt")  # below a file
