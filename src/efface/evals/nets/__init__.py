"""Evaluation of ordinary nets: figures as pure functions of outputs, and the suite that puts them together."""
