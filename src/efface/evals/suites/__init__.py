"""Suites: which items a benchmark needs of a model, and which metrics it makes of them."""
