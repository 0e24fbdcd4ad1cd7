"""The commands that make sense for a language model, and the one that does not."""

import math

import pandas as pd
import pytest
import torch

from ka_fairseq.analysis.__main__ import main
from ka_fairseq.analysis.forced import Corpus
from ka_fairseq.errors import UserError


@pytest.fixture
def options(running_text, lm_teacher_file, tmp_path):
    """A run whose only epoch is the teacher itself."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint1.pt").symlink_to(lm_teacher_file)
    out = tmp_path / "figure"
    return [f"--data={running_text}", f"--run=LM={tmp_path}/run", "--cpu", f"--out={out}"]


@pytest.fixture
def corpus(running_text, lm_teacher_file):
    return Corpus.open(running_text, "valid", lm_teacher_file, device=torch.device("cpu"))


def test_entropy_is_that_of_the_models_own_distributions(options, corpus, lm_teacher_file):
    main(["entropy", *options, f"--teacher-path={lm_teacher_file}"])
    frame = pd.read_csv(options[-1].removeprefix("--out=") + ".csv")
    assert list(frame.run) == ["LM", "teacher"]
    (model,) = corpus.load(lm_teacher_file).members
    total = positions = 0
    for index in range(len(corpus.dataset)):
        sample = corpus.dataset.collater([corpus.dataset[index]])
        with torch.no_grad():
            output = model(**sample["net_input"])
        lprobs = model.get_normalized_probs(output, log_probs=True).double()
        total -= (lprobs.exp() * lprobs).sum().item()
        positions += sample["ntokens"]
    expected = total / positions / math.log(2)
    assert frame.entropy_bits.tolist() == pytest.approx([expected] * 2, rel=1e-5)
    assert corpus.count_positions(corpus.all_sentences()) == positions


def test_agreement_with_itself(options, lm_teacher_file):
    options[1] += "/checkpoint1.pt"
    main(["agreement", *options, f"--teacher-path={lm_teacher_file}"])
    frame = pd.read_csv(options[-1].removeprefix("--out=") + ".csv")
    assert list(frame.teacher_agreement) == [1, 1]
    assert frame.backward_kl_bits.abs().max() < 1e-6


def test_novel_tokens_count_every_position(options, corpus):
    main(["novel-tokens", *options, "--split=valid", "--top-k=4"])
    frame = pd.read_csv(options[-1].removeprefix("--out=") + ".csv")
    positions = corpus.count_positions(corpus.all_sentences())
    assert frame.positions.tolist() == [positions]
    assert frame.novel.tolist() == [4 * positions]


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        (("top-tokens", "--sentence=1", "--position=2"), "give runs of a translation task"),
        (("entropy", "--source-lang=de"), "leave --source-lang and --target-lang out"),
        (("entropy", "--split=test"), r"there: train, valid; .*check --data and --split$"),
    ],
)
def test_says_what_to_change(options, command, advice):
    with pytest.raises(UserError, match=advice) as error:
        main([command[0], *options, *command[1:]])
    assert "\n" not in str(error.value)
