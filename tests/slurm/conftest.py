"""The cluster, for this folder's tests."""

from tests.slurm.cluster import cluster

__all__ = ["cluster"]
