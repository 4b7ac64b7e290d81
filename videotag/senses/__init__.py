"""What is found in a media file besides tags: shots, text in the picture, speech and sounds, with times.

One file per finder. A finder takes frames or sound while the file is decoded, so that all finders share one
decoding.
"""
