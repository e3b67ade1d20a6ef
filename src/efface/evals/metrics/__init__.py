"""Metrics: pure NumPy functions of measured rows and texts, each with a small class that says what it is.

A metric file holds the functions first and the registered classes after them. ``efface metrics NAME`` and ``docs/metrics.md`` are
made from the classes.
"""
