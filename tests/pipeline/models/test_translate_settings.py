from __future__ import annotations

import pytest
from pipeline.engine.errors import PipelineError
from pipeline.models import settings
from pipeline.models.translate_settings import Filters, Recipe


@pytest.mark.parametrize("pair", settings.names())
def test_every_pair_has_a_recipe(pair, tmp_path):
    recipe = settings.load(settings.CONFIGS / pair, tmp_path).translate
    assert recipe.n_best <= recipe.beam and recipe.filters.max_ratio == 3.0


def test_quick_changes_some_of_it(tmp_path):
    demo = settings.CONFIGS / "demo"
    whole, quick = (
        settings.load(demo, tmp_path, variant=variant).translate for variant in ("", "quick")
    )
    assert (whole.beam, quick.beam) == (4, 2)
    assert whole.max_tokens == quick.max_tokens


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"beams": 4}, "no beams: choose from beam, n_best"),
        ({"beam": "four"}, "translate.beam in pair.yaml: 'four' is not like 5"),
        ({"beam": 2}, "a beam of 2 finds no 5 translations"),
        ({"beam": 0, "n_best": 0}, "translate.beam in pair.yaml: give a number from 1 up"),
        ({"max_length": 5000}, "does not fit a batch of 4000"),
        ({"engine": "marian"}, "choose from auto, ctranslate2, fairseq-generate"),
        ({"quantization": "int4"}, "choose from float32, float16, int8, int8_float32"),
        ({"filters": {"ratio": 2}}, "no ratio: choose from max_ratio"),
        ({"nearness": "ter"}, "choose from chrf, bleu"),
        ({"sampling": {"top_k": 2}}, "no top_k: choose from samples, top_p, temperature, seed"),
        ({"sampling": {"samples": 1}}, "samples in pair.yaml: give a number from 2 up"),
        ({"sampling": {"top_p": 0.0}}, "top_p in pair.yaml: above 0 and at most 1"),
        ({"sampling": {"temperature": 0}}, "temperature must be above 0"),
        ({"filters": 3}, "translate.filters in pair.yaml: give settings"),
        ([1], "translate in pair.yaml: give settings"),
    ],
)
def test_what_is_none_of_it_is_refused_in_one_line(section, says):
    with pytest.raises(PipelineError) as error:
        Recipe.load(section)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_filter_is_switched_off_by_null():
    recipe = Recipe.load({"filters": {"max_ratio": None, "drop_copies": False}})
    assert recipe.filters == Filters(max_ratio=None, drop_copies=False)


def test_batches_and_filters_are_no_reason_to_translate_again():
    one, other = Recipe.load({}), Recipe.load({"max_tokens": 900, "filters": {"max_repeats": 5}})
    assert one != other and one.inputs == other.inputs
    assert Recipe.load({"beam": 6}).inputs != one.inputs


def test_samples_depend_on_how_they_are_drawn_and_not_on_the_search():
    one = Recipe.load({})
    drawn = Recipe.load({"sampling": {"seed": 2}})
    assert drawn.inputs == one.inputs and drawn.inputs_of_samples != one.inputs_of_samples
    assert Recipe.load({"beam": 6}).inputs_of_samples == one.inputs_of_samples
    assert Recipe.load({"max_length": 9}).inputs_of_samples != one.inputs_of_samples
