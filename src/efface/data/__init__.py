"""Rows, their formatting and their batches; readers of the field's data sets."""
