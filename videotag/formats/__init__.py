"""Files on disk <-> NumPy arrays: lists, features, weights. No Paddle here."""
