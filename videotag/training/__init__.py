"""Training: epochs and steps in one or several processes, checkpoints, and resuming.

Config, lists and seed determine a run completely: resumed from any checkpoint, it produces the same weights.
"""
