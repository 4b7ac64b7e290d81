"""Lists of samples -> padded, masked batches of NumPy arrays, in an order that follows from a seed.

sample_dataset.py reads each sample of a list by the readers of videotag.inputs, record_dataset.py files of
many records. batches.py holds what they share, order.py the order of an epoch, prefetch.py threads that work
ahead. clip_set.py writes a folder of generated clips with lists, synthetic_features.py generates features
whose tags follow known rules.
"""
