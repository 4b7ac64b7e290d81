"""A trained network compiled by a backend: Paddle Inference, OpenVINO or ONNX Runtime.

choice.py chooses backend and precision, held by agreement.py to the answers of the network's own layers.
network_cache.py keeps what was compiled; exported.py runs a folder that `videotag export` wrote, and
parity.py says how far that may be from its layers. Paddle is imported only where a network is in it.
"""
