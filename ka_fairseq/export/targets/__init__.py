"""What a checkpoint can be exported to.

A target is a module here. Its name is what ``--to`` calls it. It has

- ``WHAT``: what is written, in a line;
- ``add_options(parser)``: adds its options to a parser of argparse's, or to a group of one;
- ``export_to(checkpoint, target, given)``: writes it, with those of its options that were typed;
  raises argparse.ArgumentTypeError where options do not go together.
"""
