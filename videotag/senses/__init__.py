"""What is found in a media file besides tags: shots, text in the picture, speech and sounds, with times.

finding.py has the interfaces, and search.py runs finders on a file. There is one file per finder; text.py
reads with rapid_ocr.py. A finder takes frames or sound while the file is decoded, so that all finders share
one decoding.
"""
