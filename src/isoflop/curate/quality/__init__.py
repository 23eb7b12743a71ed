"""A quality classifier: trained, asked, and selected by."""
