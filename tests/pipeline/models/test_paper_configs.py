"""Every config of the paper's two pairs: what fairseq makes of it, at full size."""

from __future__ import annotations

import functools
import json
from copy import deepcopy

import pytest
import torch
from fairseq import tasks
from fairseq.data import Dictionary
from fairseq.dataclass.initialize import add_defaults, hydra_init
from fairseq.trainer import Trainer
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf, open_dict
from pipeline.engine import devices
from pipeline.models import hydra_configs, methods

import ka_fairseq  # noqa: F401  registers the tasks and criterions
from tests.support import ROOT

WMT, IWSLT = "wmt17_de_en", "iwslt15_th_en"
NAMES = [
    *("teacher", "learner", "control", "kd", "ka", "mixture", "topk"),
    *("tie_kd", "ka_argmax", "ka_on_policy"),
]
CRITERIONS = {"kd": "forward_kl", "mixture": "jsd_mixture", "topk": "topk_kl", "tie_kd": "tie_kd"}
TYPES = {WMT: 40_000, IWSLT: 10_000}
LANGUAGES = {WMT: ("de", "en"), IWSLT: ("th", "en")}

# Table 1: layers, width and heads of encoder and decoder.
TABLE_1 = {
    (WMT, "learner"): ((6, 512, 4), (1, 512, 4)),
    (WMT, "teacher"): ((6, 1024, 16), (6, 1024, 16)),
    (IWSLT, "learner"): ((1, 128, 1), (1, 128, 1)),
    (IWSLT, "teacher"): ((3, 256, 2), (1, 256, 2)),
}


@functools.cache
def load(pair: str, name: str, *overrides: str):
    """A config or method as fairseq-hydra-train has it; what is returned is not to be changed."""
    folder = ROOT / "configs" / pair
    config, changes = methods.find(name, folder)
    words = hydra_configs.forced(changes, hydra_configs.resolve(folder, config, {}))
    store = ConfigStore.instance()
    before = dict(store.repo)
    try:
        hydra_init(config)
        cfg = hydra_configs.compose(folder, config, [*words, *overrides])
    finally:
        store.repo = before  # else every config of this name would have fairseq's defaults
    add_defaults(cfg)
    with open_dict(cfg):
        cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
    OmegaConf.set_struct(cfg, True)
    return cfg


def hand_count(pair: str, model: str) -> int:
    """Parameters of a Transformer with one embedding for both sides and the output.

    Of WMT's learner: 40,004 · 512 = 20,482,048 for the embedding; an encoder layer
    1,050,624 + 2,099,712 + 2,048 = 3,152,384, times 6; a decoder layer
    2 · 1,050,624 + 2,099,712 + 3,072 = 4,204,032.
    """

    def attention(width: int) -> int:
        return 4 * (width * width + width)

    def feed_forward(width: int) -> int:
        return 2 * 4 * width * width + 4 * width + width

    def norm(width: int) -> int:
        return 2 * width

    (encoder_layers, width, _), (decoder_layers, decoder_width, _) = TABLE_1[pair, model]
    assert width == decoder_width
    encoder = attention(width) + feed_forward(width) + 2 * norm(width)
    decoder = 2 * attention(width) + feed_forward(width) + 3 * norm(width)
    special = 4  # <s>, <pad>, </s>, <unk>
    embedding = (TYPES[pair] + special) * width
    return embedding + encoder_layers * encoder + decoder_layers * decoder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return the folder with a joint dictionary of a pair's size."""
    return functools.cache(lambda pair: data_folder(tmp_path_factory.mktemp(pair), pair))


def data_folder(folder, pair: str):
    """A joint dictionary of the pair's size."""
    dictionary = Dictionary()
    for number in range(TYPES[pair]):
        dictionary.add_symbol(f"type{number}", n=TYPES[pair] - number)
    for language in LANGUAGES[pair]:
        dictionary.save(str(folder / f"dict.{language}.txt"))
    return folder


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pair", [WMT, IWSLT])
def test_models_have_the_sizes_of_table_1(pair, name, data):
    cfg = deepcopy(load(pair, name))
    cfg.task.data = str(data(pair))
    model_name = "teacher" if name == "teacher" else "learner"
    encoder, decoder = TABLE_1[pair, model_name]
    m = cfg.model
    assert (m.encoder_layers, m.encoder_embed_dim, m.encoder_attention_heads) == encoder
    assert (m.decoder_layers, m.decoder_embed_dim, m.decoder_attention_heads) == decoder
    assert m.encoder_ffn_embed_dim == 4 * m.encoder_embed_dim
    assert m.decoder_ffn_embed_dim == 4 * m.decoder_embed_dim
    cfg.task.eval_bleu = False  # would build a generator, which is of no interest here
    task = tasks.setup_task(cfg.task)
    assert len(task.target_dictionary) == TYPES[pair] + 4
    # Nothing is filled in where torch can leave it out: since 2.0.
    with torch.device("meta"):
        model = task.build_model(cfg.model)
    assert sum(p.numel() for p in model.parameters()) == hand_count(pair, model_name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pair", [WMT, IWSLT])
def test_configs_have_the_papers_settings(pair, name):
    cfg = load(pair, name)
    assert cfg.optimizer.adam_betas == "(0.9, 0.98)"
    assert cfg.optimizer.adam_eps == 1e-8
    assert cfg.model.dropout == 0.3
    assert cfg.criterion.label_smoothing == 0.1
    config = methods.find(name, ROOT / "configs" / pair).config
    assert cfg.checkpoint.save_dir == f"runs/{pair}/{config}"
    assert cfg.common.fp16
    assert cfg.dataset.update_epoch_batch_itr
    assert json.loads(cfg.task.eval_bleu_args)["beam"] == 6
    for gpus in (1, 2, 4, 8) if pair == WMT else (1,):
        frequency = {"optimization.update_freq": list(cfg.optimization.update_freq)}
        found = devices.Devices.choose(frequency, {"GPUS": str(gpus)}, 8)
        assert found.gpus * found.update_freq * cfg.dataset.max_tokens == (
            32_768 if pair == WMT else 4096
        )
    if name in ("teacher", "learner"):
        assert cfg.lr_scheduler._name == "inverse_sqrt"
        return
    assert cfg.lr_scheduler._name == "fixed"
    assert list(cfg.optimization.lr) == [1e-4]
    assert cfg.checkpoint.finetune_from_model == f"runs/{pair}/learner/checkpoint_best.pt"
    if name == "control":
        assert cfg.criterion._name == "label_smoothed_cross_entropy"
        return
    assert cfg.criterion._name == CRITERIONS.get(name, "backward_kl")
    assert cfg.task.views == ("argmax" if name == "ka_argmax" else None)
    assert cfg.task.on_policy_fraction == (0.5 if name == "ka_on_policy" else 0)
    assert cfg.criterion.transfer_weight == 0.5
    assert cfg.criterion.get("top_k", 0) == (8 if name == "topk" else 0)
    assert cfg.task.teacher_path == f"runs/{pair}/teacher/checkpoint_best.pt"


def save(task, cfg, path):
    """A checkpoint of a model as it is before training."""
    model = task.build_model(cfg.model)
    state = {"args": None, "cfg": OmegaConf.to_container(cfg), "model": model.state_dict()}
    history = {"num_updates": 0, "optimizer_name": "FairseqAdam", "lr_scheduler_state": {}}
    state |= {"optimizer_history": [history], "last_optimizer_state": None}
    state["extra_state"] = {"train_iterator": {"epoch": 1}}
    torch.save(state, path)
    return path


@pytest.mark.slow
@pytest.mark.extended
def test_one_update_of_de_en_at_full_width(tmp_path, data):
    folder = data(WMT)
    teacher_cfg = load(WMT, "teacher", f"task.data={folder}", "task.eval_bleu=false")
    path = save(tasks.setup_task(teacher_cfg.task), teacher_cfg, tmp_path / "teacher.pt")
    cfg = load(
        WMT,
        "topk",
        *(f"task.data={folder}", f"task.teacher_path={path}", "task.eval_bleu=false"),
        *("common.fp16=false", *hydra_configs.forced({"common.cpu": True}, ())),
    )
    task = tasks.setup_task(cfg.task)
    model = task.build_model(cfg.model)
    before = model.decoder.embed_tokens.weight.detach().clone()
    criterion = task.build_criterion(cfg.criterion)
    trainer = Trainer(cfg, task, model, criterion)
    trainer.lr_step(1)
    logs = trainer.train_step([sentences(task.target_dictionary)])
    assert 0 < float(logs["transfer_loss"]) < float(logs["loss"])
    changed = (model.decoder.embed_tokens.weight - before).abs().amax(dim=1)
    assert float(changed.max()) > 0
    assert trainer.get_lr() == 1e-4


def sentences(dictionary, count: int = 3, length: int = 7) -> dict:
    """A batch as the translation task collates it."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(4, len(dictionary), (count, length), generator=generator)
    tokens[:, -1] = dictionary.eos()
    return {
        "id": torch.arange(count),
        "nsentences": count,
        "ntokens": tokens.numel(),
        "net_input": {
            "src_tokens": tokens,
            "src_lengths": torch.full((count,), length),
            "prev_output_tokens": tokens.roll(1, dims=1),
        },
        "target": tokens,
    }
