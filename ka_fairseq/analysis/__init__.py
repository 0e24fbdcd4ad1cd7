"""What the paper measures besides BLEU; each figure a function and a command."""

import importlib
import logging

from ka_fairseq.errors import UserError

for _name in ("matplotlib", "pandas", "tabulate"):
    try:
        importlib.import_module(_name)
    except ImportError as error:
        raise UserError(
            f"the analysis needs {_name}: pip install 'ka-fairseq[analysis]' (in a clone: "
            f"pip install -c constraints.txt '.[analysis]')"
        ) from error

# Importing fairseq turns the root logger to DEBUG, and matplotlib tells it about every font.
logging.getLogger("matplotlib").setLevel(logging.WARNING)
