"""What the documents name is there, and is as they say."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

import yaml

from tests.doc_commands import PAGES, blocks
from tests.support import ROOT

# Options of programs that are neither fairseq nor of this project.
FOREIGN = {
    "--array",
    "--help",
    "--format",
    "--gpus",
    "--logdir",
    "--me",
    "--ntasks-per-node",
    "--paired-bs",
    "--system-site-packages",
    "--time",
    "--user-dir",
    "--wrap",
}
FOLDERS = ("configs/", "docs/", "examples/", "ka_fairseq/", "scripts/", "tests/")
# Where the code says what is the default by other means than the field's own.
BY_OTHER_MEANS = {
    *("--teacher-data", "--teacher-dtype", "--teacher-path", "--teacher-cache"),
    "--views",  # each criterion's own
}


def assert_none(wrong: Iterable[str]) -> None:
    """Fail with all that is wrong, a line each."""
    lines = list(wrong)
    assert not lines, "\n".join(["", *lines])


def failures(check: Callable[[Path], Iterable[str]]) -> list[str]:
    """What a check finds wrong, page by page."""
    return [f"{page.relative_to(ROOT)}: {what}" for page in PAGES for what in check(page)]


def test_links_lead_somewhere():
    def broken(page):
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            target, _, anchor = link.partition("#")
            file = page.parent / target if target else page
            if "://" in link:
                continue
            if not file.exists() or (anchor and anchor not in anchors(file)):
                yield link

    assert_none(failures(broken))


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_files_that_are_named_are_there():
    path = rf"(?<![\w/.~-])((?:{'|'.join(FOLDERS)})[\w./-]*\w)"

    def missing(page):
        for name in re.findall(path, page.read_text("utf-8")):
            # PAIR stands for any pair.
            if not (ROOT / name.replace("configs/PAIR", "configs/demo")).exists():
                yield name

    assert_none(failures(missing))


def test_options_that_are_named_exist():
    known = options()

    def unknown(page):
        named = re.findall(r"(?<![\w-])(--[a-z][a-z-]*[a-z])\b", page.read_text("utf-8"))
        return sorted(set(named) - known)

    assert_none(failures(unknown))


def options() -> set[str]:
    """Every option of fairseq, of the plugin and of the scripts, by reading their sources."""
    import fairseq
    import fairseq_cli

    folders = [ROOT / "ka_fairseq", ROOT / "scripts"]
    folders += [Path(module.__path__[0]) for module in (fairseq, fairseq_cli)]
    found = set(FOREIGN)
    for file in (file for folder in folders for file in folder.rglob("*.py")):
        text = file.read_text("utf-8")
        found |= set(re.findall(r"""["'](--[a-z][\w-]*)["']""", text))
        if "dataclass" in text:
            names = re.findall(r"^    (\w+): .*(?:field\(|II\(|=)", text, re.M)
            found |= {"--" + name.replace("_", "-") for name in names}
    for script in (ROOT / "scripts").glob("*.sh"):
        found |= set(re.findall(r"^ +(--[a-z-]+)\)", script.read_text("utf-8"), re.M))
    return found


def test_blocks_of_code_parse():
    def broken(page):
        for block in blocks(page, "bash"):
            said = subprocess.run(
                ["bash", "-n"], input=block, capture_output=True, text=True, check=False
            )
            if said.returncode:
                yield said.stderr
        for language, parse in (("python", ast.parse), ("yaml", yaml.safe_load)):
            for block in blocks(page, language):
                try:
                    parse(block)
                except (SyntaxError, yaml.YAMLError) as error:
                    yield f"{error} in:\n{block}"

    assert_none(failures(broken))


def test_the_index_has_every_guide():
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    linked = {(ROOT / "docs" / target) for target in re.findall(r"\]\(([^)]+)\)", index)}
    guides = {*ROOT.glob("docs/*.md"), *ROOT.glob("docs/*/README.md")}
    assert_none(map(str, guides - {ROOT / "docs" / "README.md"} - linked))


def test_every_promise_has_its_test():
    promises = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", promises)
    assert len(named) > 30
    texts = {
        file: path.read_text("utf-8") if (path := ROOT / "tests" / file).exists() else ""
        for file, _ in named
    }
    assert_none(f"{file}::{test}" for file, test in named if f"\ndef {test}(" not in texts[file])


def test_the_printed_defaults_are_the_codes():
    from ka_fairseq.criterions.presets import TopKKLConfig
    from ka_fairseq.criterions.transfer import TransferConfig
    from ka_fairseq.tasks.frozen_teacher_task import FrozenTeacherConfig

    configs = (FrozenTeacherConfig, TopKKLConfig, TransferConfig)
    defaults = {f"--{f.name}".replace("_", "-"): f.default for c in configs for f in fields(c)}
    printed = rows_of_options()
    assert len(printed) > 10
    wrong = [
        f"{option}: {text!r}, in the code {defaults.get(option, 'no such field')!r}"
        for option, text in printed
        if option not in defaults
        or defaults[option] != (None if option in BY_OTHER_MEANS else value(text))
    ]
    assert_none(wrong)


def rows_of_options() -> list[tuple[str, str]]:
    """The rows of docs/options.md's table of options: option and default, as they are printed."""
    text = (ROOT / "docs" / "options.md").read_text("utf-8")
    table = text[text.index("| option | default | meaning |") :].partition("\n\n")[0]
    return re.findall(r"^\| `(--[\w-]+)` \| ([^|]*?) ?\|", table, re.M)


def value(printed: str) -> object:
    """A number, a truth value or a word, as the table has it."""
    text = printed.split(";")[0].strip("` ")
    try:
        return ast.literal_eval({"off": "False"}.get(text, text))
    except (ValueError, SyntaxError):
        return text
