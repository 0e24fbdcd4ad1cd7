"""Where `prepare` gets text for a pair that has no files of its own."""
