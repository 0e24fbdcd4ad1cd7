"""Run fairseq-hydra-train with this package imported first: ``python -m ka_fairseq.hydra_train …``.

fairseq-hydra-train imports ``common.user_dir`` only after it has started the workers of a training.
But this package changes how workers start (`ka_fairseq.compat.slurm`), so it must be imported
before.
"""

from __future__ import annotations

from fairseq_cli import hydra_train

import ka_fairseq  # noqa: F401  for what its import does

if __name__ == "__main__":
    hydra_train.cli_main()
