"""FrozenTeacher: what it accepts, what it refuses and how it answers."""

import pytest
import torch
from fairseq.data import Dictionary

from ka_fairseq.errors import UserError
from ka_fairseq.loss.positions import target_rows
from ka_fairseq.loss.projection import Logits, Projection
from ka_fairseq.teacher.frozen import DTYPES, FrozenTeacher
from tests.support import make_batch, make_task
from tests.untrained import write_checkpoint

pytestmark = pytest.mark.older

ALL = slice(None)


@pytest.fixture
def task(binarized):
    return make_task(binarized)[0]


def rows_of(task, batch):
    return target_rows(batch["target"], task.target_dictionary.pad())


def refused(task, paths, **options) -> str:
    with pytest.raises(UserError) as error:
        FrozenTeacher.load(str(paths), task, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_it_answers_as_the_model_does(task, teacher_file):
    teacher = FrozenTeacher.load(str(teacher_file), task)
    batch = make_batch(task)
    output = teacher.answer(batch["net_input"], rows_of(task, batch))
    (member,) = output.members
    assert isinstance(member, Projection) and not member.hidden.requires_grad
    model = teacher.members[0]
    expected = model.get_normalized_probs(model(**batch["net_input"]), log_probs=True)
    expected = expected[batch["target"].ne(task.target_dictionary.pad())]
    torch.testing.assert_close(output.distribution(ALL).lprobs, expected, rtol=1e-5, atol=1e-5)


def test_autocast_is_the_learners(task, teacher_file):
    """Under --amp the teacher answers with the bits that it has without."""
    teacher = FrozenTeacher.load(str(teacher_file), task)
    batch = make_batch(task)
    rows = rows_of(task, batch)
    plain = teacher.answer(batch["net_input"], rows).members[0].hidden
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_amp = teacher.answer(batch["net_input"], rows).members[0].hidden
    assert under_amp.dtype == torch.float32 and torch.equal(under_amp, plain)


def test_it_is_frozen(task, teacher_file):
    (member,) = FrozenTeacher.load(str(teacher_file), task).members
    assert not member.training
    assert not any(parameter.requires_grad for parameter in member.parameters())


def test_several_teachers_average_their_probabilities(task, teacher_file, binarized, tmp_path):
    second = tmp_path / "second.pt"
    write_checkpoint(binarized, second)
    batch = make_batch(task)
    rows = rows_of(task, batch)
    ensemble = FrozenTeacher.load(f"{teacher_file}:{second}", task)
    single = [FrozenTeacher.load(str(path), task) for path in (teacher_file, second)]
    probs = [one.answer(batch["net_input"], rows).distribution(ALL).lprobs.exp() for one in single]
    together = ensemble.answer(batch["net_input"], rows).distribution(ALL).lprobs.exp()
    torch.testing.assert_close(together, (probs[0] + probs[1]) / 2)


OTHER_ARCHITECTURES = {
    "lstm": "--encoder-embed-dim 16 --decoder-embed-dim 16 --encoder-hidden-size 16 "
    "--decoder-hidden-size 16 --decoder-out-embed-dim 16",
    "fconv": "--encoder-embed-dim 16 --decoder-embed-dim 16 --encoder-layers [(16,3)] "
    "--decoder-layers [(16,3)] --decoder-out-embed-dim 16",
    "lightconv": "--encoder-embed-dim 16 --decoder-embed-dim 16 --encoder-conv-dim 16 "
    "--decoder-conv-dim 16 --encoder-ffn-embed-dim 16 --decoder-ffn-embed-dim 16 "
    "--encoder-layers 1 --decoder-layers 1 --encoder-kernel-size-list [3] "
    "--decoder-kernel-size-list [3] --encoder-attention-heads 2 --decoder-attention-heads 2",
}


@pytest.mark.parametrize("arch", OTHER_ARCHITECTURES)
def test_other_architectures(binarized, tmp_path, arch):
    path = tmp_path / "teacher.pt"
    write_checkpoint(binarized, path, "--arch", arch, *OTHER_ARCHITECTURES[arch].split())
    task, _ = make_task(binarized, "--max-source-positions", 500, "--max-target-positions", 500)
    teacher = FrozenTeacher.load(str(path), task)
    batch = make_batch(task)
    rows = rows_of(task, batch)
    output = teacher.answer(batch["net_input"], rows)
    assert isinstance(output.members[0], Logits)
    probs = output.distribution(ALL).lprobs.exp()
    assert probs.shape == (len(rows), len(task.target_dictionary))
    torch.testing.assert_close(probs.sum(-1), torch.ones(len(probs)))


@pytest.mark.parametrize(
    ("asked", "learners", "gets"),
    [
        (None, torch.bfloat16, torch.bfloat16),
        ("fp32", torch.float16, torch.float32),
        ("bf16", torch.float32, torch.bfloat16),
        ("fp16", torch.float32, torch.float16),
    ],
)
def test_precision(task, teacher_file, asked, learners, gets):
    teacher = FrozenTeacher.load(str(teacher_file), task, dtype=asked)
    teacher.to(torch.zeros(1, dtype=learners))
    assert {parameter.dtype for parameter in teacher.members[0].parameters()} == {gets}
    teacher.to(torch.zeros(1, dtype=torch.float64))
    then = gets if asked else torch.float64
    assert {parameter.dtype for parameter in teacher.members[0].parameters()} == {then}


# -- bad input -------------------------------------------------------------------------------------


def test_files_that_are_no_teacher(task, copy_of_teacher, tmp_path):
    assert "no checkpoint at" in refused(task, tmp_path / "missing.pt")
    assert "empty name" in refused(task, f"{copy_of_teacher}:")
    copy_of_teacher.write_bytes(copy_of_teacher.read_bytes()[:5000])
    assert "truncated" in refused(task, copy_of_teacher)
    torch.save({"model": {}, "cfg": None, "args": None}, copy_of_teacher)
    assert str(copy_of_teacher) in refused(task, copy_of_teacher)


def test_weights_that_do_not_fit_their_configuration(task, copy_of_teacher):
    state = torch.load(copy_of_teacher)
    state["model"]["decoder.output_projection.weight"] = torch.zeros(3, 3)
    torch.save(state, copy_of_teacher)
    assert "do not fit" in refused(task, copy_of_teacher)


def test_an_architecture_nobody_registered(task, copy_of_teacher):
    state = torch.load(copy_of_teacher)
    state["cfg"]["model"]._name = "transformer_of_somebody"
    torch.save(state, copy_of_teacher)
    assert "'transformer_of_somebody'" in refused(task, copy_of_teacher)


def test_a_language_model_is_no_teacher(task, copy_of_teacher):
    state = torch.load(copy_of_teacher)
    state["cfg"]["model"]._name = "transformer_lm"
    torch.save(state, copy_of_teacher)
    assert "transformer_lm model, which is not an encoder–decoder" in refused(task, copy_of_teacher)


def write_dictionary(task, folder, symbols):
    for language in ("de", "en"):
        dictionary = Dictionary()
        for symbol in symbols:
            dictionary.add_symbol(symbol)
        dictionary.save(str(folder / f"dict.{language}.txt"))


def test_a_vocabulary_of_another_size(task, copy_of_teacher):
    write_dictionary(task, copy_of_teacher.parent, task.target_dictionary.symbols[4:-1])
    message = refused(task, copy_of_teacher)
    size = len(task.target_dictionary)
    assert f"{size - 1} types" in message and f"the student has {size}" in message
    assert "--srcdict" in message


def test_a_vocabulary_of_the_same_size_with_other_symbols(task, copy_of_teacher):
    symbols = task.target_dictionary.symbols[4:]
    symbols[5], symbols[6] = symbols[6], symbols[5]
    write_dictionary(task, copy_of_teacher.parent, symbols)
    message = refused(task, copy_of_teacher)
    assert f"type 9 is {symbols[5]!r}" in message and repr(symbols[6]) in message


def test_where_the_teachers_dictionary_is_looked_for(task, copy_of_teacher, binarized, tmp_path):
    FrozenTeacher.load(str(copy_of_teacher), task)  # in the data folder that the checkpoint names
    state = torch.load(copy_of_teacher)
    state["cfg"]["task"]["data"] = str(tmp_path / "gone")
    torch.save(state, copy_of_teacher)
    message = refused(task, copy_of_teacher)
    assert "no dict.de.txt" in message and "--teacher-data" in message
    assert str(tmp_path / "gone") in message
    FrozenTeacher.load(str(copy_of_teacher), task, data=str(binarized))
    write_dictionary(task, tmp_path, task.target_dictionary.symbols[4:])
    FrozenTeacher.load(str(copy_of_teacher), task)  # beside the checkpoint


def test_a_teacher_that_reads_shorter_sentences(binarized, teacher_file):
    task, _ = make_task(binarized, "--max-target-positions", 2000, "--max-source-positions", 2000)
    assert "--max-source-positions 1024" in refused(task, teacher_file)


def test_an_unknown_precision():
    with pytest.raises(UserError, match="choose from fp32, fp16, bf16"):
        FrozenTeacher([], dtype="fp8")
    assert set(DTYPES) == {"fp32", "fp16", "bf16"}
