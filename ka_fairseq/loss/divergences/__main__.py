"""``python -m ka_fairseq.loss.divergences`` prints the table of formulas in docs/methods.md."""

from ka_fairseq.loss.divergences.table import table

if __name__ == "__main__":
    print(table(), end="")
