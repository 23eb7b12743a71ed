"""From documents to token files, and from those to a dataset."""
