"""Networks that turn sound and texts into features, one file per network.

Their vectors are inputs of multimodal taggers; videotag.inference.features writes them.
"""
