"""Measurements; each module asks one question."""
