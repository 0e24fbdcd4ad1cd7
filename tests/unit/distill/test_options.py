"""The command line: what is read, and what is refused in one line."""

from __future__ import annotations

import pytest

from ka_fairseq.distill import options
from ka_fairseq.distill.filters import Filters
from ka_fairseq.errors import UserError

LINE = ("bin", "--path", "teacher.pt", "--destdir", "out")


def test_defaults_keep_as_many_as_the_beam_finds():
    settings = options.parse([*LINE, "--beam", "3"])
    assert settings.search.generation.nbest == 3
    assert settings.choose == (("closest", 1),)
    assert settings.filters == Filters()
    assert settings.cfg.dataset.gen_subset == "train"
    assert settings.search.most(9) == 35


def test_options_are_spelled_as_fairseqs():
    words = ["-s", "de", "-t", "en", "--n-best", "2", "--remove-bpe", "--lenpen", "0.6"]
    words += ["--choose", "closest:2,mbr", "--shard", "2/4", "--max-ratio", "0", "--keep-copies"]
    settings = options.parse([*LINE, *words])
    assert (settings.cfg.task.source_lang, settings.cfg.task.target_lang) == ("de", "en")
    assert settings.search.generation.nbest == 2 and settings.search.generation.lenpen == 0.6
    assert settings.cfg.common_eval.post_process == "subword_nmt"
    assert settings.choose == (("closest", 2), ("mbr", 1))
    assert (settings.share.number, settings.share.of) == (2, 4)
    assert settings.filters == Filters(max_ratio=None, drop_copies=False)
    assert options.parse([*LINE, "--sentencepiece"]).cfg.common_eval.post_process == "sentencepiece"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("bin", "--destdir", "out"), "give the teacher: --path"),
        (("bin", "--path", "teacher.pt"), "give the folder for the new data-bin: --destdir"),
        ((*LINE, "--choose", "bets"), "choose from closest, best, mbr"),
        ((*LINE, "--choose", "best:0"), "number of 1 or more after a colon"),
        ((*LINE, "--choose", "best,best"), "once"),
        ((*LINE, "--shard", "3/2"), "3/2 is no share"),
        ((*LINE, "--shard", "1/2", "--merge"), "give one of them"),
        ((*LINE, "--beam", "2", "--n-best", "3"), "a beam of 2 has no 3 translations"),
        ((*LINE, "--sampling", "--n-best", "2"), "--sampling draws 5 samples"),
        ((*LINE, "--sampling-topp", "0.9"), "need --sampling: give it"),
        ((*LINE, "--longest-source", "5000"), "does not fit a batch of 4000"),
        ((*LINE, "--per-file", "0"), "--per-file: give 1 or more"),
        ((*LINE, "--keep-references", "-1"), "--keep-references: give 0 or more"),
        ((*LINE, "--prefix-size", "2"), "has no --prefix-size: leave it out"),
        ((*LINE, "--bpe=sentencepiece"), "has no --bpe: leave it out"),
    ],
)
def test_what_cannot_be_is_one_line(words, says):
    with pytest.raises(UserError) as error:
        options.parse(words)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "beyond"),
    [
        ((), None),
        (("--sampling", "--temperature", "0.7"), None),
        (("--temperature", "0.7"), "--temperature"),
        (("--unkpen", "1"), "--unkpen"),
        (("--diverse-beam-groups", "5"), "--diverse-beam-groups"),
    ],
)
def test_what_ctranslate2_does_not_have_is_known(words, beyond):
    assert options.parse([*LINE, *words]).search.beyond_ctranslate2 == beyond


def test_samples_depend_on_their_seed_and_a_search_does_not():
    search, other = (options.parse([*LINE, "--seed", seed]).search.record for seed in "12")
    assert search == other
    one, two = (options.parse([*LINE, "--sampling", "--seed", seed]).search.record for seed in "12")
    assert one != two


def test_help_names_what_is_looked_at_and_nothing_else(capsys):
    with pytest.raises(SystemExit):
        options.parse(["--help"])
    printed = capsys.readouterr().out
    assert "--destdir" in printed and "--source-lang" in printed and "--n-best" in printed
    assert "--prefix-size" not in printed and "--wandb" not in printed
