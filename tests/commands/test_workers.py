"""Several workers are one: the same losses and weights, and a teacher that stays each worker's own.

The workers are processes on the CPU that talk through gloo, under fairseq's default backend,
torch's DistributedDataParallel.
"""

import json
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.models import distributed_fairseq_model

from ka_fairseq.teacher.frozen import FrozenTeacher
from tests.support import (
    fingerprint,
    records,
    same_weights,
    succeeded,
    train_together,
    weights,
)

pytestmark = pytest.mark.slow

extended = pytest.mark.extended
# The mixture has both KLs in it.
CRITERIONS = (
    "jsd_mixture",
    *(pytest.param(name, marks=extended) for name in ("topk_kl", "tie_kd")),
)

# 25 batches of 24 sentences, in one order whoever shares them out: two workers make 13 updates of
# them, and in the last of these the second worker has nothing to do.
SMALL, LARGE = ("--batch-size", 24), ("--batch-size", 48)
ONE_ORDER = ("--curriculum", 9, "--required-batch-size-multiple", 1)
# 80 sentences: three batches, the second worker has one.
VALIDATION = ("--batch-size-valid", 32)
# The keys' biases have no gradient (a softmax does not see them) but rounding, which Adam with its
# usual epsilon makes steps of full length of.
ADAM = ("--adam-eps", 1e-4)
COMMON = (*ONE_ORDER, *VALIDATION, *ADAM, "--max-tokens", 10**6, "--log-interval", 1)

# Losses are logged with three decimals. Weights are of the order of 0.1, and move by 1e-2.
LOSS, WEIGHT = 2e-3, 1e-5


@pytest.fixture
def options(fine_tuning, tmp_path):
    """What fairseq-train is given to fine-tune into a folder of the test."""

    def options(folder, criterion, *arguments, **teacher):
        return fine_tuning(tmp_path / folder, criterion, *COMMON, *arguments, **teacher)

    return options


def as_worker(options, rank, meeting):
    """The same, as one of two processes that meet at a file which is not there yet."""
    return [
        *options,
        *("--distributed-world-size", 2, "--distributed-rank", rank, "--distributed-no-spawn"),
        *("--distributed-init-method", f"file://{meeting}", "--distributed-backend", "gloo"),
    ]


def as_two(options, meeting):
    return [as_worker(options, rank, meeting) for rank in range(2)]


def curve(result, kind):
    names = ("loss", "nll_loss", "transfer_loss", "entropy", "teacher_entropy")
    prefix = "valid_" if kind == "valid" else ""
    found = records(result, kind)
    return torch.tensor([[float(record[prefix + name]) for name in names] for record in found])


def assert_close(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=WEIGHT)


@pytest.mark.parametrize("criterion", CRITERIONS)
def test_one_process_two_workers_and_two_batches_an_update_are_the_same_training(
    options, learner_file, tmp_path, criterion
):
    one, first, _, halves = succeeded(
        train_together(
            options("one", criterion, *LARGE, "--max-epoch", 1),
            *as_two(options("two", criterion, *SMALL, "--max-epoch", 1), tmp_path / "meeting"),
            options("halves", criterion, *SMALL, "--max-epoch", 1, "--update-freq", 2),
        )
    )
    start = torch.load(learner_file, weights_only=True)["model"]
    trained = {folder: weights(tmp_path / folder) for folder in ("one", "two", "halves")}
    moved = max((trained["one"][name] - start[name]).abs().max().item() for name in start)
    assert moved > 1000 * WEIGHT
    assert_close(trained["one"], trained["two"])
    assert_close(trained["one"], trained["halves"])
    for kind, length in (("train_inner", 13), ("valid", 1)):
        expected = curve(one, kind)
        assert len(expected) == length
        for result in (first, halves):
            torch.testing.assert_close(curve(result, kind), expected, rtol=0, atol=LOSS)


@extended
def test_hard_positions_and_schedules_are_the_same_for_two_workers(options, tmp_path):
    """One window and one λ for all of them, in a run that is continued, too.

    Few updates: where rounding decides which side of the threshold a position is on, two trainings
    part. One window shorter than what they see, so that its older end is let go in one order.
    """
    changing = (
        *("--select", "hard-global", "--select-window", 1000, "--mixture-from", 0),
        *("--mixture-schedule", "linear", "--mixture-to", 1, "--mixture-updates", 6),
        *("--update-epoch-batch-itr", "True"),
    )
    two, halves = (
        options(name, "jsd_mixture", *SMALL, *changing, *more, "--max-update", 6)
        for name, more in (("two", ()), ("halves", ("--update-freq", 2)))
    )
    cut = [[*each, "--max-update", 3] for each in as_two(two, tmp_path / "cut")]
    succeeded(train_together(halves, *cut))
    succeeded(train_together(*as_two(two, tmp_path / "continued")))
    assert_close(weights(tmp_path / "halves"), weights(tmp_path / "two"))
    ours, theirs = (
        torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=True)["task_state"]
        for name in ("two", "halves")
    )
    assert len(ours["nll_window"]) == 1000
    torch.testing.assert_close(ours["nll_window"], theirs["nll_window"], rtol=0, atol=1e-3)


@extended
def test_a_run_goes_on_with_another_number_of_workers(options, tmp_path):
    """One process for an epoch and two for the next, against one process for both."""
    same_batches = ("--update-epoch-batch-itr", "True")
    one, changed, two = (
        options(folder, "jsd_mixture", *batches, *same_batches, "--max-epoch", epochs)
        for folder, batches, epochs in (
            ("one", LARGE, 2),
            ("changed", LARGE, 1),
            ("changed", SMALL, 2),
        )
    )
    succeeded(train_together(one, changed))
    succeeded(train_together(*as_two(two, tmp_path / "meeting")))
    assert_close(weights(tmp_path / "one"), weights(tmp_path / "changed"))


@extended
def test_two_workers_share_a_teacher_cache(options, tmp_path):
    """Both fill it in the first epoch; a single process then finds every answer in it."""
    cache = ("--teacher-cache", tmp_path / "cache")
    two = options("two", "jsd_mixture", *SMALL, "--max-epoch", 2, *cache)
    succeeded(train_together(*as_two(two, tmp_path / "meeting")))
    kept = stored(tmp_path / "cache")
    assert kept and all(checksums.all() for checksums in kept.values())
    alone = options("one", "jsd_mixture", *LARGE, "--max-epoch", 2, *cache)
    succeeded(train_together(alone))
    now = stored(tmp_path / "cache")
    assert all(np.array_equal(now[file], kept[file]) for file in kept)
    assert_close(weights(tmp_path / "one"), weights(tmp_path / "two"))


def stored(cache):
    """The checksums and the length of each pair in a cache, by file."""
    files = cache.rglob("*.checksums")
    return {file: np.fromfile(file, dtype=np.uint64).reshape(-1, 3) for file in files}


@extended
def test_two_workers_translate_in_the_same_updates(options, tmp_path):
    """Their own sentences; the same command again is the same run."""
    own = ("--on-policy-fraction", 0.5, "--on-policy-max-len-b", 5, "--max-update", 8)
    results = []
    for name in ("first", "again"):
        given = options(name, "backward_kl", *SMALL, *own)
        results.append(succeeded(train_together(*as_two(given, tmp_path / f"meeting-{name}")))[0])
    assert same_weights(weights(tmp_path / "first"), weights(tmp_path / "again"))
    first, again = (records(result, "train_inner") for result in results)
    assert [record["loss"] for record in first] == [record["loss"] for record in again]
    # The first worker translates in some of the updates, and has no NLL there.
    shares = [float(record["generate_share"]) for record in first]
    assert len(shares) == 8 and min(shares) == 0 < max(shares) < 1


@contextmanager
def report_of_worker():
    """Write down what this worker loaded, wrapped and had for a teacher at its end."""
    load, wrap = (
        mock.patch.object(module, name, wraps=getattr(module, name))
        for module, name in (
            (checkpoint_utils, "load_checkpoint_to_cpu"),
            (distributed_fairseq_model, "DistributedDataParallel"),
        )
    )
    members = []
    make = mock.patch.object(FrozenTeacher, "__init__", teacher_noting(members))
    with load as loading, wrap as wrapping, make:
        yield
    wrapped = [call.kwargs["module"] for call in wrapping.call_args_list]
    report = {
        "loaded": [call.args[0] for call in loading.call_args_list],
        "wrapped": [[name for name, _ in module.named_parameters()] for module in wrapped],
        "teachers": [fingerprint(member.state_dict()) for member in members],
    }
    Path(f"{report['loaded'][0]}.report").write_text(json.dumps(report), "utf-8")


def teacher_noting(noted):
    original = FrozenTeacher.__init__

    def noting(self, members, dtype=None):
        original(self, members, dtype)
        noted.extend(self.members)

    return noting


def test_each_worker_loads_its_own_teacher_and_keeps_it(
    options, binarized, teacher_file, learner_file, tmp_path
):
    """Two workers are given two different teachers; a broadcast would make them one."""
    state = torch.load(teacher_file, weights_only=True)
    teachers = []
    for rank in range(2):
        for tensor in state["model"].values():
            tensor.mul_(0.9)
        teachers.append(tmp_path / f"{rank}.pt")
        torch.save(state, teachers[-1])
    short = (*SMALL, "--max-update", 3, "--teacher-data", binarized)
    given = [options("run", "backward_kl", *short, teacher=teacher) for teacher in teachers]
    meeting = tmp_path / "meeting"
    succeeded(
        train_together(
            *(as_worker(each, rank, meeting) for rank, each in enumerate(given)),
            watch=report_of_worker,
        )
    )
    start = torch.load(learner_file, weights_only=True)["model"]
    learners = [name for name in start if not name.endswith(("version", "_float_tensor"))]
    for teacher in teachers:
        report = json.loads(Path(f"{teacher}.report").read_text("utf-8"))
        assert report["loaded"].count(str(teacher)) == 1
        assert len(report["wrapped"]) == 1 and sorted(report["wrapped"][0]) == sorted(learners)
        assert report["teachers"] == [fingerprint(torch.load(teacher, weights_only=True)["model"])]
    saved = torch.load(tmp_path / "run" / "checkpoint_last.pt", weights_only=True)
    assert saved["model"].keys() == start.keys()
    assert not saved["task_state"] and not saved["criterion"]


@extended
def test_unused_parameters_may_be_looked_for(options, tmp_path):
    """As a learner with layer drop needs it; the loss uses the projection after forward."""
    looking = ("--find-unused-parameters",)
    dropping = (*looking, "--encoder-layerdrop", 0.5)
    for folder, arguments in (("plain", ()), ("looking", looking), ("dropping", dropping)):
        given = options(folder, "topk_kl", *SMALL, "--max-update", 5, *arguments)
        succeeded(train_together(*as_two(given, tmp_path / f"meeting-{folder}")))
    assert_close(weights(tmp_path / "plain"), weights(tmp_path / "looking"))


def test_fully_sharded_is_refused_in_one_line(options, tmp_path):
    [result] = train_together(options("run", "backward_kl", "--ddp-backend", "fully_sharded"))
    assert result.returncode == 1 and "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: --ddp-backend fully_sharded does not work") and "legacy" in last
    assert not list((tmp_path / "run").glob("*.pt"))
