"""The paper's measurements besides BLEU. Each figure has a function and a command.

Students are the paper's *learners*; names in code and labels in figures keep *learner*.
"""

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

# Importing fairseq sets the root logger to DEBUG, where matplotlib logs every font.
logging.getLogger("matplotlib").setLevel(logging.WARNING)
