"""Training: epochs of steps on one or several processes, checkpoints, and what --resume needs.

A run is decided by its config, its lists and its seed; resumed at any checkpoint, it gives the same weights.
"""
