"""What the documents name is there, and is as they say."""

import ast
import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from tests.support import ROOT

PAGES = sorted(
    {ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")}
    | set(ROOT.glob("configs/**/*.md"))
)
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs" / "reliability.md").read_text("utf-8"))
# Options of programs that are neither fairseq nor of this project.
FOREIGN = {"--help", "--logdir", "--paired-bs", "--system-site-packages", "--user-dir"}
FOLDERS = ("configs/", "docs/", "examples/", "ka_fairseq/", "scripts/", "tests/")
# Where the code says what is the default by other means than the field's own.
BY_OTHER_MEANS = {
    *("--teacher-data", "--teacher-dtype", "--teacher-path", "--teacher-cache"),
    "--views",  # each criterion's own
}


def page_id(page):
    return str(page.relative_to(ROOT))


def test_the_table_names_tests():
    assert len(NAMED) > 30


@pytest.mark.parametrize(("file", "test"), NAMED, ids=[test for _, test in NAMED])
def test_a_promise_has_its_test(file, test):
    assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)\)", page.read_text("utf-8"))
    inside = [target for target in targets if "://" not in target]
    assert [target for target in inside if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_files_that_are_named_are_there(page):
    path = rf"(?<![\w/.~-])((?:{'|'.join(FOLDERS)})[\w./-]*\w)"
    named = re.findall(path, page.read_text("utf-8"))
    # PAIR stands for any pair.
    named = [name.replace("configs/PAIR", "configs/demo") for name in named]
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_index_has_every_guide():
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    linked = {(ROOT / "docs" / target) for target in re.findall(r"\]\(([^)]+)\)", index)}
    guides = {*ROOT.glob("docs/*.md"), *ROOT.glob("docs/*/README.md")}
    assert guides - {ROOT / "docs" / "README.md"} <= linked


@cache
def options():
    """Every option of fairseq, of the plugin and of the scripts, by reading their sources."""
    import fairseq
    import fairseq_cli

    folders = [ROOT / "ka_fairseq", ROOT / "scripts"]
    folders += [Path(module.__path__[0]) for module in (fairseq, fairseq_cli)]
    found = set(FOREIGN)
    for folder in folders:
        for file in [folder] if folder.is_file() else folder.rglob("*.py"):
            text = file.read_text("utf-8")
            found |= set(re.findall(r"""["'](--[a-z][\w-]*)["']""", text))
            if "dataclass" in text:
                names = re.findall(r"^    (\w+): .*(?:field\(|II\(|=)", text, re.M)
                found |= {"--" + name.replace("_", "-") for name in names}
    return found


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_options_that_are_named_exist(page):
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*[a-z])\b", page.read_text("utf-8")))
    assert named - options() == set()


def rows_of_options():
    """The rows of README's table of options: option and default, as they are printed."""
    text = (ROOT / "README.md").read_text("utf-8")
    table = text[text.index("| option | default | meaning |") :].partition("\n\n")[0]
    return re.findall(r"^\| `(--[\w-]+)` \| ([^|]*?) ?\|", table, re.M)


def test_the_readme_has_a_table_of_options():
    assert len(rows_of_options()) > 10


@pytest.mark.parametrize(("option", "printed"), rows_of_options())
def test_a_default_is_the_codes(option, printed):
    from ka_fairseq.criterions.presets import TopKKLConfig
    from ka_fairseq.criterions.transfer import TransferConfig
    from ka_fairseq.tasks.frozen_teacher_task import FrozenTeacherConfig

    name = option.removeprefix("--").replace("-", "_")
    defaults = {}
    for config in (FrozenTeacherConfig, TopKKLConfig, TransferConfig):
        defaults |= {f.name: f.default for f in fields(config)}
    assert name in defaults
    if option in BY_OTHER_MEANS:
        assert defaults[name] is None
        return
    assert value(printed.split(";")[0].strip("` ")) == defaults[name]


def value(text):
    """A number, a truth value or a word, as a table has it."""
    try:
        return ast.literal_eval({"off": "False"}.get(text, text))
    except (ValueError, SyntaxError):
        return text
