"""Datasets: lists of samples -> padded, masked batches of NumPy arrays, in an order determined by a seed.

sample_dataset.py reads samples of a list with the readers of videotag.inputs; record_dataset.py reads record
files; memory_dataset.py keeps a small set in memory. batches.py defines batches and the dataset interface,
order.py the order of an epoch, and prefetch.py background threads. clip_set.py generates video clips with
lists, and synthetic_features.py generates features whose tags follow known rules.
"""
