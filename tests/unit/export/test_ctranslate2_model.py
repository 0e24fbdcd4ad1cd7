"""Converted models compute what fairseq computes; what would not is refused."""

import shutil
import sys

import ctranslate2
import pytest
import torch

from ka_fairseq.errors import UserError
from ka_fairseq.export import convert, export
from tests.support import make_batch, make_model, make_task, run, train, weights
from tests.untrained import write_checkpoint

# Options of fairseq-train for models that differ in all that may matter.
ARCHITECTURES = {
    "post-norm, embeddings apart": [],
    "pre-norm, embeddings shared, deep encoder": [
        *("--encoder-normalize-before", "--decoder-normalize-before", "--share-all-embeddings"),
        *("--encoder-layers", 4, "--decoder-layers", 1),
    ],
    "decoder's embeddings shared, deep decoder": [
        *("--share-decoder-input-output-embed", "--encoder-layers", 1, "--decoder-layers", 3),
        *("--encoder-ffn-embed-dim", 48, "--decoder-ffn-embed-dim", 80),
    ],
    "learned positions, normalized embeddings, gelu": [
        *("--encoder-learned-pos", "--decoder-learned-pos", "--layernorm-embedding"),
        *("--activation-fn", "gelu", "--no-scale-embedding"),
    ],
    "encoder wider than decoder": ["--encoder-embed-dim", 96, "--decoder-embed-dim", 64],
    "alignments": ["--arch", "transformer_align", *("--encoder-layers", 2, "--decoder-layers", 2)],
}
FEW_UPDATES = ("--max-update", 5)


def dictionaries(data):
    return data / "dict.de.txt", data / "dict.en.txt"


def assert_same_scores(task, model, folder):
    """Each token of the references gets fairseq's log-probability, that of the end included."""
    batch = make_batch(task, size=12)
    with torch.no_grad():
        logits, _ = model.eval()(**batch["net_input"])
    target = batch["target"].unsqueeze(-1)
    fairseqs = logits.float().log_softmax(-1).gather(-1, target).squeeze(-1)
    sides = (
        _words(task.source_dictionary, batch["net_input"]["src_tokens"]),
        _words(task.target_dictionary, batch["target"]),
    )
    translator = ctranslate2.Translator(str(folder), intra_threads=1)
    for result, words, row in zip(translator.score_batch(*sides), sides[1], fairseqs, strict=True):
        assert len(result.log_probs) == len(words) + 1
        assert result.log_probs == pytest.approx(row[: len(words) + 1].tolist(), abs=2e-4)


def _words(dictionary, rows):
    special = (dictionary.pad(), dictionary.eos())
    return [[dictionary[token] for token in row if token not in special] for row in rows]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_scores_as_in_fairseq(name, binarized, tmp_path):
    task, model = write_checkpoint(binarized, tmp_path / "a.pt", *ARCHITECTURES[name])
    convert(tmp_path / "a.pt", tmp_path / "out", dictionaries=dictionaries(binarized))
    assert_same_scores(task, model, tmp_path / "out")


@pytest.mark.slow
def test_the_ways_in_which_a_checkpoint_is_written(binarized, teacher_file, tmp_path):
    """Of plain fairseq-train, of this package, and both of them exported, in half precision too."""
    own = ("--task", "translation_with_teacher", "--teacher-path", teacher_file)
    train(
        binarized, tmp_path, *own, "--criterion", "topk_kl", "--label-smoothing", 0.1, *FEW_UPDATES
    )
    for number, checkpoint in enumerate((teacher_file, tmp_path / "checkpoint_last.pt")):
        exported = tmp_path / f"exported{number}.pt"
        export(checkpoint, exported, half=True, folders=False)
        for source in (checkpoint, exported):
            convert(source, tmp_path / "out", dictionaries=dictionaries(binarized))
            assert_same_scores(*_with_weights(binarized, source, number), tmp_path / "out")


def _with_weights(data, checkpoint, number):
    """The model of a checkpoint as its training had it, whatever the checkpoint says of it."""
    task, cfg = make_task(data, *(("--encoder-embed-dim", 96) if number == 0 else ()))
    model = make_model(task, cfg)
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    return task, model


@pytest.mark.slow
def test_a_checkpoint_of_fairseq_hydra_train(binarized, tmp_path):
    (tmp_path / "plain.yaml").write_text(
        "# @package _global_\n"
        f"task: {{_name: translation, data: {binarized}, source_lang: de, target_lang: en}}\n"
        "criterion: {_name: cross_entropy}\n"
        "model: {_name: transformer_tiny, encoder_layers: 3, share_all_embeddings: true}\n"
        "optimizer: {_name: adam, lr: [0.001]}\n"
        "lr_scheduler: {_name: fixed}\n"
        "common: {cpu: true}\n"
        "dataset: {max_tokens: 1000, num_workers: 0}\n"
        "optimization: {max_update: 3, lr: [0.001]}\n"
        f"checkpoint: {{save_dir: {tmp_path}, no_epoch_checkpoints: true}}\n",
        encoding="utf-8",
    )
    run(
        "fairseq-hydra-train",
        *("--config-dir", tmp_path, "--config-name", "plain", f"hydra.run.dir={tmp_path}"),
    )
    convert(tmp_path / "checkpoint_last.pt", tmp_path / "out", dictionaries=dictionaries(binarized))
    task, cfg = make_task(binarized, "--encoder-layers", 3, "--share-all-embeddings")
    model = make_model(task, cfg)
    model.load_state_dict(weights(tmp_path))
    assert_same_scores(task, model, tmp_path / "out")


@pytest.mark.parametrize("quantization", ["int8", "int8_float32", "float16"])
def test_quantization_makes_it_smaller_and_little_else(quantization, binarized, tmp_path):
    write_checkpoint(binarized, tmp_path / "a.pt")
    sizes = {}
    for name in ("float32", quantization):
        out = tmp_path / name
        convert(tmp_path / "a.pt", out, dictionaries=dictionaries(binarized), quantization=name)
        sizes[name] = (out / "model.bin").stat().st_size
    assert sizes[quantization] < 0.7 * sizes["float32"]
    assert ctranslate2.Translator(str(tmp_path / quantization)).translate_batch([["die"]])


INEXPRESSIBLE = {
    "--no-cross-attention": ["--no-cross-attention"],
    "--cross-self-attention": ["--cross-self-attention"],
    "--no-decoder-final-norm": [
        *("--no-decoder-final-norm", "--decoder-normalize-before", "--encoder-normalize-before")
    ],
    "decoder.adaptive_softmax": ["--adaptive-softmax-cutoff", "100,200"],
    "decoder.project_out_dim": ["--decoder-output-dim", 32],
    "encoder.quant_noise": ["--quant-noise-pq", 0.1],
    "--encoder-normalize-before and --decoder-normalize-before": ["--encoder-normalize-before"],
    "--encoder-attention-heads and --decoder-attention-heads": ["--decoder-attention-heads", 4],
    "architecture lstm": ["--arch", "lstm", "--encoder-embed-dim", 8],
}


@pytest.mark.parametrize("reason", INEXPRESSIBLE)
def test_what_ctranslate2_cannot_express_is_one_line(reason, binarized, tmp_path):
    write_checkpoint(binarized, tmp_path / "a.pt", *INEXPRESSIBLE[reason])
    with pytest.raises(UserError, match=reason) as refusal:
        convert(tmp_path / "a.pt", tmp_path / "out", dictionaries=dictionaries(binarized))
    assert "\n" not in str(refusal.value) and "does not support" in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_a_language_model_is_refused(lm_teacher_file, binarized, tmp_path):
    with pytest.raises(UserError, match="is a language model"):
        convert(lm_teacher_file, tmp_path / "out", dictionaries=dictionaries(binarized))


def test_what_else_is_refused(teacher_file, binarized, tmp_path, monkeypatch):
    files = dictionaries(binarized)
    ensemble = tmp_path / f"{teacher_file.name}:b.pt"
    for error, arguments, options in (
        ("names an ensemble", (ensemble,), {}),
        (
            "choose from int8, int8_float32, float16, float32",
            (teacher_file,),
            {"quantization": "4"},
        ),
        ("no dictionary at", (teacher_file,), {"dictionaries": (files[0], tmp_path / "dict")}),
        ("no checkpoint at", (tmp_path / "missing.pt",), {}),
    ):
        with pytest.raises(UserError, match=error):
            convert(*arguments, tmp_path / "out", **{"dictionaries": files, **options})
    shorter = tmp_path / "dict.en.txt"
    shorter.write_text("".join(files[1].open(encoding="utf-8").readlines()[:-1]), "utf-8")
    with pytest.raises(UserError, match=r"types in its decoder, .*dict.en.txt has"):
        convert(teacher_file, tmp_path / "out", dictionaries=(files[0], shorter))
    monkeypatch.setitem(sys.modules, "ctranslate2.converters", None)
    with pytest.raises(UserError, match="ctranslate2 is not installed: pip install"):
        convert(teacher_file, tmp_path / "out", dictionaries=files)
    assert not (tmp_path / "out").exists()


def test_the_folder_is_written_whole_or_not_at_all(teacher_file, binarized, tmp_path, monkeypatch):
    target, files = tmp_path / "a" / "out", dictionaries(binarized)
    convert(teacher_file, target, dictionaries=files)
    convert(teacher_file, target, dictionaries=files, quantization="int8")
    before = (target / "model.bin").read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", fail)
        with pytest.raises(UserError, match="cannot be written: No space left"):
            convert(teacher_file, target, dictionaries=files)
    assert (target / "model.bin").read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_model_is_not_replaced(kind, teacher_file, binarized, tmp_path):
    mine = tmp_path / "mine" if kind == "file" else tmp_path / "mine" / "text"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(UserError, match="is no exported model"):
        convert(teacher_file, tmp_path / "mine", dictionaries=dictionaries(binarized))
    assert mine.read_text() == "mine"
