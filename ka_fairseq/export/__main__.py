"""``python -m ka_fairseq.export``: export a checkpoint ``--to`` a target.

Each module of ``targets/`` is a target under the module's name. The module adds its options and
writes the output.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from ka_fairseq.export import targets

DEFAULT = "fairseq"


def main() -> None:
    """Parse the command line and export."""
    found = _targets()
    parser = _parser(found)
    args = parser.parse_args()
    for name, target in found.items():
        if name != args.to and (misplaced := _typed(target)):
            parser.error(
                f"--{misplaced[0].replace('_', '-')} is no option of --to {args.to}: leave it out"
            )
    try:
        found[args.to].export_to(args.checkpoint, args.target, vars(args))
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))


def _targets() -> dict[str, ModuleType]:
    modules = pkgutil.iter_modules(targets.__path__, f"{targets.__name__}.")
    return {name.rpartition(".")[2]: importlib.import_module(name) for _, name, _ in modules}


def _parser(found: dict[str, ModuleType]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ka_fairseq.export",
        description="Write a checkpoint for use elsewhere. "
        + " ".join(f"--to {name}: {target.WHAT}." for name, target in found.items()),
        argument_default=argparse.SUPPRESS,  # so that a target sees only the typed options
    )
    parser.add_argument("checkpoint", type=Path, help="written by fairseq-train")
    parser.add_argument("target", type=Path, help="file or folder to write")
    parser.add_argument("--to", choices=found, default=DEFAULT, help="default: %(default)s")
    for name, target in found.items():
        target.add_options(parser.add_argument_group(f"--to {name}"))
    return parser


def _typed(target: ModuleType) -> list[str]:
    """Return the options on the command line that belong to a target."""
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    target.add_options(parser)
    return list(vars(parser.parse_known_args()[0]))


if __name__ == "__main__":
    main()
