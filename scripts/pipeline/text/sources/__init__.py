"""The sources of text for a pair without files of its own."""
