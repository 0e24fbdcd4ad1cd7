"""The tasks; fairseq imports every file of this folder of a --user-dir."""
