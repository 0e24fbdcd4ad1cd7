"""Turn a source's text into a data-bin: cleaning, splitting, subwords, binary files."""
