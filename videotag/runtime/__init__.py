"""A trained network compiled by a backend; one file per backend, NAME_backend.py, behind backends.py.

choice.py chooses backend and precision; agreement.py compares their outputs with those of the layers.
network_cache.py keeps compiled networks on the disk. exported.py runs a folder that `videotag export` wrote,
and parity.py measures how far it is from its layers. Paddle is imported only where it is used.
"""
