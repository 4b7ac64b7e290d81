"""HTML pages, figures and model cards.

tags_report.py writes a page of tags over time; eval_report.py writes a page about an evaluation, with figures
from figures.py. model_card.py writes the README of an export.
"""
