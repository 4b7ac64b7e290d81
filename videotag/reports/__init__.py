"""Pages and pictures for people.

tags_report.py shows tags along a video, eval_report.py an evaluation, with the pictures of figures.py.
model_card.py writes the README of an export.
"""
