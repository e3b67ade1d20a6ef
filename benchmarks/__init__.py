"""Ratios against baselines that are defined in words beside each figure; ``python benchmarks/run.py`` runs them all."""
