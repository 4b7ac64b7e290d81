"""Where a trained network runs; Paddle is imported only where a network is in it."""
