"""What is done with models: train, evaluate, predict, extract.

Importing a module of this room loads Paddle only where it computes in it, so that an export runs without.
"""
