"""Patches for differences between releases of fairseq, torch and numpy.

Code for single releases belongs here and in no other folder.

Importing this package patches fairseq in place, in cases where fairseq would not run: reading of
checkpoints, validation, workers, SLURM, bf16, names that numpy 2 removed, and faults of fairseq
0.12.2. Each function names its reason. Patches that only change the behaviour of fairseq are in
:mod:`ka_fairseq.hardening`.
"""

from ka_fairseq.compat import (
    bf16,
    fairseq_0_12_2,
    numpy_2,
    reading,
    slurm,
    validation,
    workers,
)

reading.allow_fairseq_checkpoints()
validation.let_silent_models_be_validated()
workers.let_workers_share_a_checkpoint()
workers.let_workers_run_on_cpus()
slurm.let_tasks_train_together_on_cpus()
bf16.let_bf16_run_without_a_tpu()
numpy_2.give_back_long_integers()
numpy_2.give_back_interpolation()
numpy_2.count_beyond_two_gigabytes()
fairseq_0_12_2.leave_out_fast_path()
fairseq_0_12_2.keep_position_marker_out_of_checkpoints()
fairseq_0_12_2.let_architectures_fill_configs()
