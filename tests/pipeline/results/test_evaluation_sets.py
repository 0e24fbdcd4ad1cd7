"""Several test sets of a pair: of a user's own corpus, and of a release."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pipeline.engine.errors import PipelineError
from pipeline.models import settings
from pipeline.results import evaluation_sets
from pipeline.results.evaluation_sets import MAIN, EvaluationSet
from pipeline.text import prepare

from tests.pipeline import own_configs, releases


def write(folder, name, lines):
    folder.mkdir(exist_ok=True)
    for language in ("de", "en"):
        text = "".join(f"{language} {name} {line}\n" for line in range(lines))
        (folder / f"{name}.{language}").write_text(text, encoding="utf-8")


@pytest.fixture
def own(pair, tmp_path):
    """A corpus whose test sets are named by their years."""
    data = tmp_path / "own"
    for name, lines in {"train": 30, "valid": 3, "t2016": 4, "t2017": 5}.items():
        write(data, name, lines)
    return replace(
        pair,
        files=replace(pair.files, data_dir=data),
        text={**pair.text, "test": ["t2016", "t2017"]},
    )


def read(path):
    return path.read_text(encoding="utf-8").splitlines()


def test_the_first_is_made_with_the_training_text(own):
    assert prepare.run(own)["pairs"] == {"train": 30, "valid": 3, "test": 4}
    assert read(own.reference)[0] == "en t2016 0"
    assert evaluation_sets.named(own, "t2016") == MAIN
    assert MAIN.reference(own) == own.reference
    assert MAIN.bin_dir(own) == own.files.bin_dir and MAIN.title(own) == "t2016"


def test_a_further_one_is_made_apart(own, tmp_path):
    before = prepare.inputs(own)
    assert prepare.write_test(own, "t2017", tmp_path) == 5
    assert read(tmp_path / "test.de") == [f"de t2017 {n}" for n in range(5)]
    which = evaluation_sets.named(own, "t2017")
    assert which == EvaluationSet("t2017") and which.stage(own).needs == ("binarize",)
    # Neither its text nor its being there changes what models depend on.
    write(own.files.data_dir, "t2017", 6)
    write(own.files.data_dir, "t2018", 6)
    more = replace(own, text={**own.text, "test": ["t2016", "t2017", "t2018"]})
    assert prepare.inputs(more) == before
    assert prepare.test_inputs(own, "t2017") != prepare.test_inputs(own, "t2018")


def test_most_holds_for_each(own, tmp_path):
    quick = replace(own, text={**own.text, "most": {"test": 2}})
    assert prepare.write_test(quick, "t2017", tmp_path) == 2


def test_files_that_are_missing_are_told_beforehand(own):
    with pytest.raises(PipelineError, match=r"t2019\.de \(or t2019\.de\.gz\) is missing"):
        prepare.test_inputs(own, "t2019")


def test_of_a_release_it_is_one_of_its_parts(tmp_path):
    archives = releases.wmt17(tmp_path / "archives")
    pair = releases.pair_of("wmt17_de_en", archives, tmp_path)
    pair.files.run_dir.mkdir(parents=True)
    pair = replace(pair, files=replace(pair.files, archives_dir=archives))
    before = prepare.inputs(pair)
    pair.text["parts"]["older"] = pair.text["parts"]["valid"]
    assert prepare.inputs(pair) == before
    for name in ("europarl-v7", "commoncrawl", "nc-v12"):  # what only train is in is not looked at
        (archives / f"training-parallel-{name}.tgz").unlink()
    target = tmp_path / "older"
    target.mkdir()
    assert prepare.write_test(pair, "older", target) == 6
    assert {path.name for path in target.iterdir()} == {
        f"test.{kind}{language}" for kind in ("", "raw.") for language in pair.languages
    }
    assert len(read(target / "test.raw.en")) == 6
    with pytest.raises(PipelineError, match="has no test set newer: choose from older, test"):
        prepare.test_inputs(pair, "newer")


@pytest.mark.parametrize("name", ["valid", "../x", "", "a b"])
def test_a_name_is_that_of_a_folder(tmp_path, name):
    configs = own_configs.copied("demo", tmp_path / "configs")
    with own_configs.changing(configs) as content:
        content["text"]["test"] = ["test", name]
    with pytest.raises(PipelineError, match="is no name for a test set"):
        settings.load(configs, tmp_path / "runs")
