"""The loss, from tensors alone: nothing here knows fairseq."""
