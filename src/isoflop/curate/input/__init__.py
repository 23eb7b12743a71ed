"""What is read: files of any kind, pages of the default corpus, HTML to text."""
