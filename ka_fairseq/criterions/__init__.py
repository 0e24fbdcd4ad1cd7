"""The criterions; fairseq does not import this folder of a --user-dir by itself."""

from ka_fairseq.criterions import backward_kl, forward_kl, jsd_mixture, topk_kl

__all__ = ["backward_kl", "forward_kl", "jsd_mixture", "topk_kl"]
