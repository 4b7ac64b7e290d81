"""Inference with trained networks: features, tags, metrics and exports, for single files and lists.

Everything starts from weights with their config and labels. Jobs over lists (extract, frames, predict)
resume after a kill. Only modules that compute in Paddle import it, so that an export for another backend runs
without Paddle.
"""
