from __future__ import annotations

import pytest
from pipeline.engine.errors import PipelineError
from pipeline.models import model_list
from pipeline.models.training_text import Text, members


@pytest.mark.parametrize(
    ("value", "translator", "name"),
    [
        (None, None, "references"),
        ("best", None, "best"),
        ("closest", "large", "closest-of-large"),
        ("reference", "large", "reference-of-large"),  # as it was called before, and keeps working
        ({"references": 1, "best": 2}, None, "references-best2"),
        ({"references": 3}, "large", "references3"),
        ("best", "large+small", "best-of-large+small"),
    ],
)
def test_texts_have_names(value, translator, name):
    text = Text.load(value, translator, "models.x")
    assert text.name == name
    assert text.plain == (name == "references")
    assert text.translated == ("best" in name or name.endswith("-of-large"))


@pytest.mark.parametrize("value", ["bets", {"best": 0}, {"best": True}, {"nearest": 1}])
def test_another_text_is_refused_in_one_line(value):
    with pytest.raises(PipelineError, match=r"^pair\.yaml: models\.x\.text") as error:
        model_list.merged({}, {"x": {"text": value}}, "pair.yaml")
    assert "\n" not in str(error.value)
    if value in ("bets", {"nearest": 1}):
        assert "choose from references, best, closest, mbr" in str(error.value)


def test_an_ensemble_has_members():
    assert [members(name) for name in (None, "a", "a+b")] == [(), ("a",), ("a", "b")]


def test_default_is_yes_or_no():
    with pytest.raises(PipelineError, match=r"models\.x\.default: true or false"):
        model_list.merged({}, {"x": {"default": "no"}}, "pair.yaml")
