"""Table 3: readable tokens, what is marked, and where runs differ."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from fairseq.data import Dictionary

from ka_fairseq.analysis.top_tokens import (
    Place,
    as_markdown,
    as_text,
    describe_place,
    find_places,
    mass_on_own_tokens,
    readable,
    shorten,
    top_tokens,
)
from ka_fairseq.errors import UserError

PLACE = Place(3, 2, "Ich werde mich", "I will [attend] to it")
# As in the paper's table: "get" is in both runs, though not in the same epoch.
LISTS = {
    ("KD", 1): ["look", "be"],
    ("KD", 2): ["get", "concern"],
    ("KA", 1): ["look", "be"],
    ("KA", 2): ["a|b", "get"],
}


def table() -> pd.DataFrame:
    rows = [
        (run, epoch, rank, token, 0.5 / rank)
        for (run, epoch), tokens in LISTS.items()
        for rank, token in enumerate(tokens, 1)
    ]
    frame = pd.DataFrame(rows, columns=["run", "epoch", "rank", "token", "probability"])
    return frame.assign(only_here=frame.token.isin(["concern", "a|b"]))


def dictionary(*symbols: str) -> Dictionary:
    made = Dictionary()
    for symbol in symbols:
        made.add_symbol(symbol)
    return made


def test_readable_sentencepiece_has_no_spaces():
    pieces = dictionary("▁look", "er", "▁", "▁a▁b")
    assert readable(["▁look", "er", "▁", "</s>", "<unk>"], pieces) == [
        *("look", "+er", "_", "</s>", "<unk>")
    ]


def test_other_subwords_stay_as_they_are():
    pieces = dictionary("look@@", "er", "_")
    assert readable(["look@@", "er", "_"], pieces) == ["look@@", "er", "_"]


def test_markdown_by_hand():
    assert as_markdown(table(), PLACE) == (
        "SRC: Ich werde mich  \n"
        "TRG: I will \\[attend\\] to it\n\n"
        "| epoch   | KD                | KA             |\n"
        "|:--------|:------------------|:---------------|\n"
        "| 1       | look · be         | look · be      |\n"
        "| 2       | get · **concern** | **a\\|b** · get |\n"
    )


def test_text_fits_the_terminal():
    text = as_text(table(), PLACE, 60)
    assert "get · *concern" in text and "*a|b · get" in text
    assert max(map(len, text.splitlines())) <= 60


def test_frame_is_the_plain_softmax(corpus, trained, plain_lprobs):
    sentence, position = 4, 2
    frame = top_tokens(corpus, trained.runs, sentence, position, top_k=6)
    for run in trained.runs:
        for epoch, file in run.checkpoints.items():
            lprobs = plain_lprobs(file, sentence)[position]
            rows = frame[frame.run.eq(run.name) & frame.epoch.eq(epoch)]
            assert list(rows["rank"]) == [1, 2, 3, 4, 5, 6]
            expected = np.argsort(-lprobs)[:6]
            symbols = [corpus.task.target_dictionary[token] for token in expected]
            assert list(rows.token) == symbols
            assert rows.probability.to_numpy() == pytest.approx(np.exp(lprobs[expected]), rel=1e-4)


def test_marks_what_stands_in_one_run_only(corpus, trained):
    frame = top_tokens(corpus, trained.runs, 4, 2)
    tokens = {name: set(rows.token) for name, rows in frame.groupby("run")}
    for row in frame.itertuples():
        others = set().union(*(found for name, found in tokens.items() if name != row.run))
        assert row.only_here == (row.token not in others)
    alone = top_tokens(corpus, trained.runs[:1], 4, 2)
    assert not alone.only_here.any()


def test_mass_on_own_tokens_by_hand():
    p = torch.tensor([[0.5, 0.3, 0.1, 0.1], [0.5, 0.3, 0.15, 0.05]]).log()
    q = torch.tensor([[0.5, 0.05, 0.4, 0.05], [0.3, 0.5, 0.15, 0.05]]).log()
    # First row: p alone has token 1 (.3), q alone token 2 (.4). Second row: the same two tokens.
    assert mass_on_own_tokens([p, q], 2).tolist() == pytest.approx([0.35, 0])


def test_find_is_the_greatest_of_all(corpus, trained, plain_lprobs):
    found = find_places(corpus, trained.runs, most=5, top_k=3)
    best = {}
    for sentence in corpus.all_sentences().tolist():
        lprobs = [plain_lprobs(run.last, sentence) for run in trained.runs]
        for position in range(len(lprobs[0])):
            tops = [set(np.argsort(-values[position])[:3]) for values in lprobs]
            mass = sum(
                np.exp(values[position])[list(top - other)].sum()
                for values, top, other in zip(lprobs, tops, tops[::-1], strict=True)
            )
            best[sentence] = max(best.get(sentence, 0), mass / 2)
    expected = sorted(best.values(), reverse=True)[:5]
    assert found.own_mass.to_numpy() == pytest.approx(expected, rel=1e-4)
    assert [best[sentence] for sentence in found.sentence] == pytest.approx(expected)
    assert found.sentence.is_unique
    for row in found.itertuples():
        assert describe_place(corpus, row.sentence, row.position).target == row.target


def test_find_does_not_depend_on_the_batch(trained):
    one, many = (
        find_places(trained.corpus(max_tokens=size), trained.runs, 4) for size in (1, 100_000)
    )
    assert one.drop(columns="own_mass").equals(many.drop(columns="own_mass"))
    assert one.own_mass.to_numpy() == pytest.approx(many.own_mass, rel=1e-4)


def test_describes_the_place(corpus):
    place = describe_place(corpus, 0, 1)
    target = [corpus.task.target_dictionary[token] for token in corpus.dataset[0]["target"]]
    assert place.target.split()[1] == f"[{target[1]}]"
    assert place.target.replace("[", "").replace("]", "") == " ".join(target[:-1])
    end = describe_place(corpus, 0, len(target) - 1)
    assert end.target.endswith(" [</s>]")


def test_long_titles_keep_the_place():
    text = f"{'a ' * 100}[here]{' b' * 100}"
    assert "[here]" in shorten(text, around="[")
    assert len(shorten(text, around="[")) <= 80


def test_says_what_is_wrong(corpus, trained):
    with pytest.raises(UserError, match="--top-k"):
        top_tokens(corpus, trained.runs, 0, 0, top_k=10**6)
    with pytest.raises(UserError, match="two --run"):
        find_places(corpus, trained.runs[:1], 3)
    with pytest.raises(UserError, match="--find"):
        find_places(corpus, trained.runs, 0)
