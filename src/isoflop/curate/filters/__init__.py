"""Filters by address, language, rules, evaluations and repeated tokens."""
