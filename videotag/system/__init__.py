"""What any program needs: atomic files, locks, signals, progress bars, downloads, a quiet Paddle import.

Nothing here depends on videos or models. Importing a module of this package loads neither Paddle nor NumPy,
except quiet_paddle, whose purpose is to import Paddle.
"""
