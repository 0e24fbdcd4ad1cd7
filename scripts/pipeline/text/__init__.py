"""From a text's source to what fairseq reads: cleaning, splitting, subwords, binary files."""
