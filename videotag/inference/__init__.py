"""A trained network at work: features, tags, metrics and exports, of one file or of lists.

Everything starts with weights, their config and their labels. Jobs over lists (extract, frames, predict)
can be killed and started again. Importing a module loads Paddle only where it computes in Paddle, so that
an export for another backend runs without it.
"""
