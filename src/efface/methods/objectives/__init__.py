"""Forget losses for language models, one file each."""
