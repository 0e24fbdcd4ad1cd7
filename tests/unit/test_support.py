"""What the tests share says what fairseq says."""

from argparse import Namespace

import pytest
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf

from tests.support import configuration

KL = ("--task", "translation_with_teacher", "--criterion", "backward_kl")


def parsed(*words):
    command = ["data", *map(str, words), "--arch", "transformer_tiny"]
    return options.parse_args_and_arch(options.get_training_parser(), command)


def plain(cfg):
    """The sections as dictionaries; a model without a dataclass is a namespace in there."""
    sections = {name: cfg[name] for name in cfg}
    return {
        name: vars(section)
        if isinstance(section, Namespace)
        else OmegaConf.to_container(section)
        if OmegaConf.is_config(section)
        else section
        for name, section in sections.items()
    }


@pytest.mark.parametrize(
    "words",
    [
        (*KL, "--transfer-weight", 0.9, "--label-smoothing", 0.1),
        (*KL, "--teacher-path", "a.pt", "--teacher-cache", "b", "--sentence-avg"),
        (*KL, "--eval-bleu", "--eval-bleu-args", '{"beam": 4}', "--max-source-positions", 99),
        (*KL, "--batch-size-valid", 8),
    ],
)
def test_a_configuration_is_fairseqs_own_whatever_was_composed_before(words):
    configuration(parsed(*KL))
    configuration(parsed(*KL, "--transfer-weight", 0.3, "--views", "argmax"))
    assert plain(configuration(parsed(*words))) == plain(
        convert_namespace_to_omegaconf(parsed(*words))
    )
