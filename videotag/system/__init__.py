"""What any program needs: whole files, locks, signals, progress, downloads, and Paddle without its chatter.

Nothing here knows of videos or models. Importing a module of this room loads neither Paddle nor NumPy, but
for quiet_paddle, whose purpose is to import Paddle.
"""
