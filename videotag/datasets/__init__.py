"""Samples on disk -> padded, masked batches of NumPy arrays."""
