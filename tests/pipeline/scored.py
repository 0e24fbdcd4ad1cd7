"""A pair whose models are scored by hand, with all that its page can show."""

from __future__ import annotations

import pandas as pd
from pipeline import evaluate, files, state
from pipeline.analyse import Analysis

from ka_fairseq.analysis import entropy, novel_tokens
from tests.pipeline.exported import add_speed

SOURCES = [f"Satz <{number}>" for number in range(12)]
REFERENCES = [f"This is sentence number {number} of the test" for number in range(12)]


def add(pair, model, translations):
    """Have a model translate the test set like this."""
    files.write_lines(pair.evaluate_dir / f"{model}.en", translations)
    facts = evaluate.score(translations, REFERENCES)
    state.write(pair.run_dir, f"evaluate.{model}", state.Record({}, done=True, facts=facts))


def fill(pair):
    """Fill the pair's folder: KA is better than KD on sentence 4 and worse on sentence 6."""
    files.write_lines(pair.text_dir / "test.de", SOURCES)
    files.write_lines(pair.text_dir / "test.en", REFERENCES)
    facts = {"text": "hand-made", "pairs": {"train": 9, "valid": 8, "test": 12}}
    state.write(pair.run_dir, "prepare", state.Record({}, done=True, facts=facts))
    same = list(REFERENCES)
    kd, ka = list(same), list(same)
    kd[3], ka[5] = "This is wrong", ""
    for model, translations in {"teacher": same, "learner": same, "kd": kd, "ka": ka}.items():
        add(pair, model, translations)
    add_speed(pair, teacher=20.0, learner=80.0, ka=81.0)
    return pair


def analysis(pair):
    """What `analyse.analyse` would return for KD and KA."""
    folder = pair.run_dir / "analysis"
    folder.mkdir(parents=True)
    runs = [pair.titles["kd"], pair.titles["ka"]]
    places = [(run, epoch) for run in runs for epoch in range(3)]
    sure = pd.DataFrame([(*place, 2.5 + place[1]) for place in places])
    sure.columns = ["run", "epoch", "entropy_bits"]
    novel = pd.DataFrame([(*place, 100 - place[1], 0.9) for place in places])
    novel.columns = ["run", "epoch", "novel", "top_k_mass"]
    entropy.plot_entropy(sure, folder / "entropy")
    novel_tokens.plot_novel_tokens(novel, folder / "novel_tokens")
    for name, frame in (("entropy", sure), ("novel_tokens", novel)):
        frame.to_csv(folder / f"{name}.csv", index=False)
    numbers = ("teacher_agreement", "accuracy", "ece", "forward_kl_bits", "backward_kl_bits")
    agreement = pd.DataFrame([{"run": run, **dict.fromkeys(numbers, 0.1234)} for run in runs])
    lists = [
        {"run": run, "epoch": epoch, "tokens": [["Wort" * 30, True], *[["the", False]] * 9]}
        for run, epoch in places
    ]
    examples = [{"source": "Donau" * 40, "target": "a _ b " * 20, "lists": lists}]
    return Analysis(folder, sure, novel, agreement, examples)
