"""Targets of an export.

Each module here is a target. The module's name is the value for ``--to``. A module has

- ``WHAT``: one line about the output;
- ``add_options(parser)``: adds the target's options to an argparse parser or to a group of it;
- ``export_to(checkpoint, target, given)``: writes the output. ``given`` holds the options that were
  typed. Raises argparse.ArgumentTypeError if options do not fit together.
"""
