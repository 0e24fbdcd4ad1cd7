"""What the paper measures besides BLEU; each figure a function and a command."""

import logging

# Importing fairseq turns the root logger to DEBUG, and matplotlib tells it about every font.
logging.getLogger("matplotlib").setLevel(logging.WARNING)
