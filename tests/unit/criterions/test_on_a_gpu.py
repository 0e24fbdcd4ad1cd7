"""Whole steps on a GPU that is not there: nothing mixes devices, and the host waits for none.

Not followed, as fake tensors have no numbers: what a filled cache writes to disk and autocast (both
in tests/unit/teacher/; here it is what autocast leaves, half features beside float32 parameters),
and a teacher that is moved to the CPU and back, of which the structure is tested: nothing that the
cache keeps belongs to the teacher.
"""

# ruff: noqa: E402  an older torch has not what follows

import pytest

backends = pytest.importorskip("torch.utils.backend_registration")
if not hasattr(backends, "_setup_privateuseone_for_python_backend"):
    pytest.skip("this torch has no backends in Python", allow_module_level=True)

import torch
from fairseq.criterions import CRITERION_REGISTRY

from ka_fairseq.criterions.chunked_cross_entropy import ChunkedCrossEntropyConfig
from ka_fairseq.criterions.presets import ORDERS, TopKKLConfig
from ka_fairseq.criterions.selection import KEY as WINDOW
from ka_fairseq.criterions.selection import SELECTIONS
from ka_fairseq.criterions.tie_kd import TieKDConfig
from ka_fairseq.criterions.transfer import TransferConfig
from ka_fairseq.criterions.transfer_criterion import TransferCriterionConfig
from ka_fairseq.loss.divergences import TOP_K_FORMS, divergence_names
from ka_fairseq.tasks import on_policy
from ka_fairseq.teacher.cache.cached_dataset import KEY
from ka_fairseq.teacher.cache.teacher_cache import TeacherCache
from ka_fairseq.teacher.frozen import FrozenTeacher
from tests import fake_gpu as fake
from tests.support import make_batch, make_task

SMALL = (
    *("--task", "translation_with_teacher", "--encoder-learned-pos", "--decoder-learned-pos"),
    *("--encoder-layers", 1, "--decoder-layers", 1, "--encoder-embed-dim", 8),
    *("--decoder-embed-dim", 8, "--encoder-ffn-embed-dim", 8, "--decoder-ffn-embed-dim", 8),
)
WHOLE = [(name, {}) for name in ("forward_kl", "backward_kl", "jsd_mixture")]
RESTRICTED = [
    ("topk_kl", {"top_k": 4, "top_k_form": form, "order": order})
    for form in TOP_K_FORMS
    for order in ORDERS
]
CONFIGS = {
    "topk_kl": TopKKLConfig,
    "tie_kd": TieKDConfig,
    "transfer": TransferConfig,
    "chunked_cross_entropy": ChunkedCrossEntropyConfig,
}
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "amp": None}
# What a precision changes is the same for all criterions, nearly. A mixture has both KLs in it.
IN_ALL = [("jsd_mixture", {}), *(each for each in RESTRICTED if each[1]["order"] == "mixture")]
STEPS = [
    *((name, options, "fp16") for name, options in (*WHOLE, *RESTRICTED)),
    *(("backward_kl", {}, precision) for precision in PRECISIONS if precision != "fp16"),
    *(
        pytest.param(name, options, precision, marks=pytest.mark.extended)
        for name, options in IN_ALL
        for precision in PRECISIONS
        if precision != "fp16"
    ),
]
# Where the host counts the target tokens: at the first batch, or where it cannot know them.
COUNTED = ["aten.nonzero.default"]


@pytest.fixture(scope="module")
def corpus(binarized):
    """Task, configuration and a real batch."""
    task, cfg = make_task(binarized, *SMALL)
    return task, cfg, make_batch(task)


class Step:
    """A learner, a teacher and a criterion on the fake GPU."""

    def __init__(self, gpu, corpus, criterion, options, precision="fp32", members=1, model=()):
        self.gpu = gpu
        self.task, cfg, self.batch = corpus
        if model:
            self.task, cfg = make_task(self.task.cfg.data, *SMALL, *model)
        dtype = PRECISIONS[precision] or torch.float32
        self.learner = self.build(cfg, dtype)
        if precision == "amp":
            self.halve_features()
        _, plain, _ = corpus
        teacher = FrozenTeacher([self.build(plain, dtype) for _ in range(members)])
        teacher.place = (next(self.learner.parameters()).device, dtype)  # it is there already
        self.task.teacher, self.task.teacher_cache = teacher, None
        config = CONFIGS.get(criterion, TransferCriterionConfig)
        options = {"sentence_avg": False} | options
        self.criterion = CRITERION_REGISTRY[criterion](config(**options), self.task)

    def build(self, cfg, dtype):
        return self.gpu.watch(fake.on_gpu(lambda: self.task.build_model(cfg.model), dtype))

    def halve_features(self):
        forward = self.learner.forward

        def under_autocast(*args, **kwargs):
            features, extra = forward(*args, **kwargs)
            return features.half(), extra

        under_autocast.__wrapped__ = forward  # so that its signature stays
        self.learner.forward = under_autocast

    def open_cache(self, folder, teacher_file):
        teacher = self.task.teacher
        teacher.dtype = teacher.place[1]
        dictionaries = [self.task.source_dictionary, self.task.target_dictionary]
        cache = TeacherCache(str(folder), teacher, "fp16", str(teacher_file), dictionaries)
        cache.write = lambda sample, pad, hidden, normalizers: self.written(hidden, normalizers)
        self.task.teacher_cache = cache

    def written(self, hidden, normalizers):
        assert hidden.dtype == torch.int16 and normalizers.dtype == torch.float64
        assert {hidden.device.type, normalizers.device.type} == {fake.DEVICE}

    def sample(self, source):
        sample = fake.batch_on_gpu(self.batch)
        if source == "asked":
            return sample
        sample[KEY] = {"split": "valid-0"}
        if source == "stored":
            n, width = sample["ntokens"], 8 * len(self.task.teacher.members)
            normalizers = 1 + len(self.task.teacher.members)
            device = {"device": fake.DEVICE}
            sample[KEY]["hidden"] = torch.empty(n, width, dtype=torch.int16, **device)
            sample[KEY]["normalizers"] = torch.empty(n, normalizers, dtype=torch.float64, **device)
        return sample

    def run(self, source="asked"):
        """Forward and backward; how often the host waited."""
        self.learner.zero_grad()
        self.gpu.waits.clear()
        loss, _, log = self.criterion(self.learner, self.sample(source))
        loss.backward()
        assert loss.device.type == fake.DEVICE
        for value in log.values():
            assert not torch.is_tensor(value) or value.device.type == fake.DEVICE
        for parameter in self.learner.parameters():
            gradient = parameter.grad
            assert (gradient.device, gradient.dtype) == (parameter.device, parameter.dtype)
        return list(self.gpu.waits)


def positions(corpus, prefix=0):
    """How many target positions of the batch are scored."""
    task, _, batch = corpus
    return int(batch["target"][:, prefix:].ne(task.target_dictionary.pad()).sum())


@pytest.mark.parametrize(("criterion", "options", "precision"), STEPS)
def test_a_step_stays_on_the_device_and_does_not_wait(
    corpus, teacher_file, tmp_path, criterion, options, precision
):
    """Asked and stored; with and without smoothing; every criterion, form and precision."""
    with fake.fake_gpu(positions(corpus)) as gpu:
        step = Step(gpu, corpus, criterion, options, precision)
        assert step.run() == COUNTED
        assert step.run() == []
        smoothed = {**options, "label_smoothing": 0.1, "report_accuracy": True}
        step = Step(gpu, corpus, criterion, smoothed, precision)
        step.open_cache(tmp_path / "cache", teacher_file)
        step.run("stored")  # its first step looks whether the projection is finite
        assert step.run("stored") == []


@pytest.mark.parametrize("name", divergence_names()[len(WHOLE) :])
def test_the_other_divergences(corpus, teacher_file, tmp_path, name):
    """Temperature and smoothing included; what the precision is of is the same for all."""
    with fake.fake_gpu(positions(corpus)) as gpu:
        options = {"divergence": name, "temperature": 2.0, "label_smoothing": 0.1}
        step = Step(gpu, corpus, "transfer", options, "fp16")
        assert step.run() == COUNTED
        step.open_cache(tmp_path / "cache", teacher_file)
        step.run("stored")
        assert step.run("stored") == []


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_teacher(corpus, precision):
    """fairseq's own loss in chunks."""
    with fake.fake_gpu(positions(corpus)) as gpu:
        options = {"label_smoothing": 0.1, "report_accuracy": True}
        step = Step(gpu, corpus, "chunked_cross_entropy", options, precision)
        assert step.run() == COUNTED
        assert step.run() == []


@pytest.mark.parametrize("kind", SELECTIONS)
def test_hard_positions(corpus, kind):
    """Threshold, window and counts stay on the device; from one update to the next, too."""
    with fake.fake_gpu(positions(corpus)) as gpu:
        step = Step(gpu, corpus, "backward_kl", {"select": kind}, "fp16")
        for update in range(2):
            step.task.update_num = update
            waits = step.run()
            assert waits == ([] if update else COUNTED)
            step.task.after_update(gpu_device(step))
            assert gpu.waits == waits
        kept = step.task.state.state_dict.pop(WINDOW, None)
        assert (kept is not None) == (kind == "hard-global")
        assert kept is None or kept.device.type == fake.DEVICE


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("members", [1, 2])
def test_a_cache_is_filled_on_the_device(corpus, teacher_file, tmp_path, precision, members):
    with fake.fake_gpu(positions(corpus)) as gpu:
        step = Step(gpu, corpus, "jsd_mixture", {}, precision, members)
        step.open_cache(tmp_path / "cache", teacher_file)
        step.run("filled")
        kept = [t for layer in step.task.teacher_cache.layers(gpu_device(step)) for t in layer]
        teachers = {
            parameter.untyped_storage()._cdata
            for member in step.task.teacher.members
            for parameter in member.parameters()
        }
        for tensor in filter(torch.is_tensor, kept):
            assert not isinstance(tensor, torch.nn.Parameter)
            assert tensor.untyped_storage()._cdata not in teachers
            assert tensor.device.type == fake.DEVICE and tensor.dtype == torch.float16


def gpu_device(step):
    return next(step.learner.parameters()).device


@pytest.mark.parametrize("source", ["asked", "stored"])
@pytest.mark.parametrize(("criterion", "options"), [*WHOLE, RESTRICTED[0]])
def test_an_ensemble(corpus, teacher_file, tmp_path, criterion, options, source):
    with fake.fake_gpu(positions(corpus)) as gpu:
        step = Step(gpu, corpus, criterion, options, "fp16", members=2)
        if source == "stored":
            step.open_cache(tmp_path / "cache", teacher_file)
        step.run(source)
        assert step.run(source) == []


@pytest.mark.parametrize("precision", PRECISIONS)
def test_several_passes_count_once(corpus, precision):
    """TIE-KD: what is read in the second and third is made on the device."""
    with fake.fake_gpu(positions(corpus)) as gpu:
        step = Step(gpu, corpus, "tie_kd", {"label_smoothing": 0.1}, precision)
        assert step.run() == COUNTED
        assert step.run() == []


def test_the_learners_own_translations(corpus, monkeypatch):
    """Collated and taught on the device; the generator, which waits at each word, is left out."""
    *_, batch = corpus
    lengths = [2 + place % 3 for place in range(len(batch["id"]))]
    monkeypatch.setattr(on_policy, "number_from", lambda *parts: 0)

    def translate(*_):
        return [torch.empty(n, dtype=torch.int64, device=fake.DEVICE) for n in lengths]

    monkeypatch.setattr(on_policy, "translate", translate)
    with fake.fake_gpu(sum(lengths)) as gpu:
        step = Step(gpu, corpus, "backward_kl", {}, "fp16", model=("--on-policy-fraction", 0.5))
        step.learner.train()
        # The sentences' numbers, of which the sampling's seed is made: one wait on a GPU.
        ids = ["aten._local_scalar_dense.default"] * len(lengths)
        assert step.run() == [*ids, *COUNTED]
        assert step.run() == ids


@pytest.mark.parametrize("source", ["asked", "stored"])
def test_of_an_ignored_prefix_the_host_does_not_know_the_length(
    corpus, teacher_file, tmp_path, source
):
    with fake.fake_gpu(positions(corpus, prefix=2)) as gpu:
        step = Step(gpu, corpus, "backward_kl", {"ignore_prefix_size": 2})
        if source == "stored":
            step.open_cache(tmp_path / "cache", teacher_file)
        step.run(source)
        assert step.run(source) == COUNTED


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_an_adaptive_softmax(corpus, precision):
    with fake.fake_gpu(positions(corpus)) as gpu:
        cutoff = ("--adaptive-softmax-cutoff", "20,60")
        step = Step(gpu, corpus, "backward_kl", {}, precision, model=cutoff)
        assert step.run() == COUNTED
        assert step.run() == []


def test_validation(corpus):
    with fake.fake_gpu(positions(corpus)) as gpu, torch.no_grad():
        step = Step(gpu, corpus, "jsd_mixture", {"label_smoothing": 0.1}, "fp16")
        gpu.waits.clear()
        for _ in range(2):
            loss, *_ = step.criterion(step.learner.eval(), step.sample("asked"))
            assert loss.device.type == fake.DEVICE and gpu.waits == COUNTED


def test_a_batch_that_counts_otherwise_is_counted_every_time(corpus):
    """As language models' with --past-target; as many rows as there are, not as it says."""
    with fake.fake_gpu(positions(corpus) - 1) as gpu:
        step = Step(gpu, corpus, "chunked_cross_entropy", {"report_accuracy": True})
        for _ in range(3):
            assert step.run() == COUNTED


def test_what_would_be_noticed(corpus):
    """A mask, a second wait, and a tensor made on the CPU: each is seen."""
    with fake.fake_gpu(3) as gpu:
        target = torch.empty(2, 3, dtype=torch.int64, device=fake.DEVICE)
        with pytest.raises(AssertionError, match="use row numbers"):
            target[target.ne(1)]
        with pytest.raises(RuntimeError, match="same device"):
            target + torch.empty(2, 3)
        assert bool(target.ne(1).any()) and torch.equal(target, target)
        target.cpu()
        assert len(gpu.waits) == 3
