"""Retention terms: what protects the rest of the model, one file each."""
