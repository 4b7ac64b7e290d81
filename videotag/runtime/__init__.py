"""Runs trained networks in backends; each backend is one file, NAME_backend.py, see backends.py.

choice.py selects backend and precision; agreement.py compares outputs with those of the network's layers.
network_cache.py caches compiled networks on disk. exported.py runs folders written by `videotag export`, and
parity.py compares their outputs with the original network's. Paddle is imported only where it is used.
"""
