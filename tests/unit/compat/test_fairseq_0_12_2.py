"""What the official release writes and builds, everywhere."""

import pytest
import torch
from fairseq import models
from omegaconf import OmegaConf

from ka_fairseq.compat.fairseq_0_12_2 import FAST_PATH_COPIES
from tests.support import make_batch, make_model, make_task

pytestmark = pytest.mark.older


def test_an_encoder_has_each_of_its_weights_once(binarized):
    """fairseq 0.12.2 keeps copies for a fast path that fails on padding; others know none."""
    task, cfg = make_task(binarized)
    model = make_model(task, cfg)
    layer = "encoder.layers.0."
    names = {name.removeprefix(layer).split(".")[0] for name in model.state_dict() if layer in name}
    assert names == {"self_attn", "self_attn_layer_norm", "fc1", "fc2", "final_layer_norm"}


def test_weights_of_plain_fairseq_0_12_2_load(binarized):
    task, cfg = make_task(binarized)
    model, other = (make_model(task, cfg, seed) for seed in (1, 2))
    theirs = dict(model.state_dict())
    for name in FAST_PATH_COPIES:
        theirs[f"encoder.layers.0.{name}"] = torch.full((3,), float("nan"))
    for side in ("encoder", "decoder"):
        theirs[f"{side}.embed_positions._float_tensor"] = torch.full((1,), float("nan"))
    other.load_state_dict(theirs, strict=True, model_cfg=cfg.model)
    ours, loaded = model.state_dict(), other.state_dict()
    assert ours.keys() == loaded.keys()
    assert all(torch.equal(ours[name], loaded[name]) for name in ours)


def test_padding_changes_nothing_for_a_model_that_was_loaded(binarized):
    task, cfg = make_task(binarized)
    model = make_model(task, cfg)
    model.load_state_dict(model.state_dict(), strict=True, model_cfg=cfg.model)
    model.eval()
    with torch.no_grad():
        padded = model(**make_batch(task, size=4)["net_input"])[0]
        alone = model(**make_batch(task, size=1)["net_input"])[0]
    row = next(
        i
        for i, tokens in enumerate(make_batch(task, size=4)["id"].tolist())
        if tokens == make_batch(task, size=1)["id"].item()
    )
    torch.testing.assert_close(padded[row, : alone.shape[1]], alone[0], atol=1e-5, rtol=0)


def test_an_architecture_in_a_hydra_config_has_its_sizes(binarized):
    task, cfg = make_task(binarized)
    by_name = OmegaConf.create({"_name": "transformer_tiny", "dropout": 0.0})
    model = models.build_model(by_name, task)
    assert model.encoder.embed_tokens.embedding_dim == 64
    named, given = (
        {name: weight.shape for name, weight in m.state_dict().items()}
        for m in (model, make_model(task, cfg))
    )
    assert named == given
