"""Which output layers are plain projections, and that both kinds say what the model says."""

import pytest
import torch
from fairseq.models.transformer import TransformerDecoderBase

from ka_fairseq import models
from ka_fairseq.loss.positions import target_rows
from ka_fairseq.loss.projection import Logits, Projection
from tests.support import log_probs, make_batch, make_model, make_task


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ((), Projection),
        (("--share-all-embeddings",), Projection),
        (("--decoder-output-dim", 8), Projection),
        (("--adaptive-softmax-cutoff", "20,60"), Logits),
        (("--arch", "transformer_align"), Logits),
        (("--arch", "lstm"), Logits),
        (("--arch", "lstm", "--adaptive-softmax-cutoff", "20,60"), Logits),
    ],
)
def test_it_says_what_the_model_says(binarized, arguments, kind):
    task, cfg = make_task(binarized, *arguments)
    model = make_model(task, cfg).eval()
    batch = make_batch(task)
    keep = batch["target"].ne(task.target_dictionary.pad())
    rows = target_rows(batch["target"], task.target_dictionary.pad())
    with torch.no_grad():
        output = models.run(model, batch["net_input"], rows)
        lprobs = log_probs(model, batch)[keep]
    assert type(output) is kind
    assert output.vocabulary == len(task.target_dictionary)
    ours = output.prepare().logits(slice(None)).log_softmax(-1)
    torch.testing.assert_close(ours, lprobs, rtol=1e-4, atol=1e-5)
    part = output.prepare().logits(slice(3, 7)).log_softmax(-1)
    torch.testing.assert_close(part, lprobs[3:7], rtol=1e-4, atol=1e-5)


def test_a_changed_output_layer_is_noticed(binarized):
    task, cfg = make_task(binarized)
    model = make_model(task, cfg)
    assert models.has_plain_projection(model)

    class Scaled(type(model.decoder)):
        def output_layer(self, features):
            return TransformerDecoderBase.output_layer(self, features) / 2

    model.decoder.__class__ = Scaled
    assert not models.has_plain_projection(model)


def test_wrappers_are_seen_through_and_called(binarized):
    """DistributedDataParallel counts on its own forward being called."""
    task, cfg = make_task(binarized)
    model = make_model(task, cfg).eval()

    class Wrapper(torch.nn.Module):
        calls = 0

        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, *arguments, **options):
            Wrapper.calls += 1
            return self.module(*arguments, **options)

    batch = make_batch(task)
    rows = target_rows(batch["target"], task.target_dictionary.pad())
    wrapped = Wrapper(Wrapper(model))
    assert models.unwrap(wrapped) is model
    output = models.run(wrapped, batch["net_input"], rows)
    assert Wrapper.calls == 2
    bare = models.run(model, batch["net_input"], rows)
    assert torch.equal(output.hidden, bare.hidden)
