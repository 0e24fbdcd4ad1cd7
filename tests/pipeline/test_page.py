from __future__ import annotations

import re

import pytest
from pipeline import analyse, evaluate, files, page, report, state

SOURCES = [f"Satz <{number}>" for number in range(12)]
REFERENCES = [f"This is sentence number {number} of the test" for number in range(12)]


def add(pair, model, translations):
    files.write_lines(pair.evaluate_dir / f"{model}.en", translations)
    facts = evaluate.score(translations, REFERENCES)
    state.write(pair.run_dir, f"evaluate.{model}", state.Record({}, done=True, facts=facts))


@pytest.fixture
def evaluated(pair):
    """Test sets scored by hand: KA is better than KD on line 3 and worse on line 5."""
    files.write_lines(pair.text_dir / "test.de", SOURCES)
    files.write_lines(pair.text_dir / "test.en", REFERENCES)
    facts = {"text": "hand-made", "pairs": {"train": 9, "valid": 8, "test": 12}}
    state.write(pair.run_dir, "prepare", state.Record({}, done=True, facts=facts))
    same = list(REFERENCES)
    kd, ka = list(same), list(same)
    kd[3], ka[5] = "This is wrong", ""
    for model, translations in {"teacher": same, "learner": same, "kd": kd, "ka": ka}.items():
        add(pair, model, translations)
    return pair


def test_wins_and_losses(evaluated):
    found = page.samples(evaluated)
    (win,), (loss,) = found["wins"], found["losses"]
    assert win["reference"] == REFERENCES[3] and win["translations"]["kd"] == "This is wrong"
    assert loss["source"] == SOURCES[5] and loss["translations"]["ka"] == ""
    assert win["difference"] > 0 > loss["difference"]


def test_without_both_there_are_no_samples(evaluated):
    state.forget(evaluated.run_dir, "evaluate.kd")
    assert page.samples(evaluated) == {"wins": [], "losses": []}


def test_the_page_is_one_file_that_asks_for_nothing(evaluated):
    report.build(evaluated)
    text = (evaluated.run_dir / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text and "<link" not in text
    assert all(address.startswith("data:") for address in re.findall(r'src="([^"]*)"', text))
    assert not re.search(r"url\(|@import|https?://", text)


def test_what_the_page_shows(evaluated):
    report.build(evaluated)
    text = (evaluated.run_dir / "report.html").read_text(encoding="utf-8")
    assert "Satz &lt;5&gt;" in text and "Satz <5>" not in text
    assert "(nothing)" in text
    rows = {row["model"]: row["bleu"] for row in report.collect(evaluated)}
    best = max(("kd", "ka"), key=rows.get)
    assert re.findall(r'<tr class="best"><td>([^<]*)', text) == [report.NAMES[best]]
    for row in report.collect(evaluated):
        assert f"<td>{row['bleu']:.1f}</td><td>{row['chrf']:.1f}</td>" in text
    assert "nrefs:1|case:mixed|eff:no" in text
    # No model was trained, so there is nothing to analyse.
    assert "What the learners do" not in text


def test_models_without_a_checkpoint_of_an_epoch_are_not_analysed(pair):
    """As where max_update ends the first epoch."""
    for model in ("teacher", "learner", "kd"):
        state.write(pair.run_dir, model, state.Record({}, done=True))
        files.write_text(pair.best_checkpoint(model), "weights")
        files.write_text(pair.last_checkpoint(model), "weights")
    assert analyse.analyse(pair, {"kd": "KD"}) is None
