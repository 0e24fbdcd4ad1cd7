"""Folders of exported models whose translators are a few lines, and what stages would find."""

from __future__ import annotations

from pipeline.engine import files, state
from pipeline.models import translators
from pipeline.results import speed

TRANSLATOR = """\
import time

class Translator:
    def __init__(self, folder, *, threads, beam, device="cpu"):
        if device != "cpu":
            raise RuntimeError("no GPU here")
        self.threads, self.beam = threads, beam

    def translate(self, lines):
        # Greedily it takes half the time, and says ! behind each line.
        time.sleep(SECONDS * len(lines) / (2 if self.beam == 1 else 1))
        end = " !" if self.beam == 1 else ""
        return [line.replace("Satz", WORD) + end for line in lines]
"""


def add_folder(pair, model, word="sentence", seconds=0.0):
    """Write a folder, and mark it as exported."""
    code = TRANSLATOR.replace("WORD", repr(word)).replace("SECONDS", repr(seconds))
    files.write_text(translators.folder(pair, model) / "translate.py", code)
    add_state(pair, model, quantization="int8", megabytes=1.26)


def add_state(pair, model, **facts):
    """Mark a model as exported, or as refused."""
    record = state.Record({"model": model}, done=True, facts=facts)
    state.write(pair.files.run_dir, translators.name(model), record)


def add_speed(pair, **rates):
    """Mark models as measured before there were beams: sentences a second, BLEU half of that."""
    inputs, models = {}, {}
    for model, rate in rates.items():
        add_state(pair, model, quantization="int8", megabytes=rate / 10)
        stage = translators.name(model)
        inputs[f"from {stage}"] = state.fingerprint(pair.files.run_dir, stage)
        found = {"sentences_per_second": rate, "words_per_second": 10.0 * rate}
        found |= {"p50_ms": 1000 / rate, "p95_ms": 2000 / rate}
        models[model] = {"bleu": rate / 2, "chrf": rate / 2, speed.ONE: found, speed.ALL: found}
    settings = {speed.ALL: {"threads": 8}, speed.ONE: {"threads": 1}}
    facts = {"models": models, "sentences": 200, "repeats": 3, "settings": settings}
    state.write(pair.files.run_dir, speed.NAME, state.Record(inputs, done=True, facts=facts))
