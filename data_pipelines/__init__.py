"""Recipes over datatrove, to be read and edited."""
