"""Lists of samples -> padded, masked batches of NumPy arrays, in an order that follows from a seed.

feature_dataset.py reads feature files, record_dataset.py files of many records, video_dataset.py videos or
folders of frames, with the crops and flips of augment.py. batches.py holds what they share, order.py the
order of an epoch, prefetch.py threads that work ahead. synthetic_features.py generates features whose tags
follow known rules.
"""
