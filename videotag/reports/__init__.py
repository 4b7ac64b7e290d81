"""Pages for people: a report of tags, a report of an evaluation, the model card of an export.

tags_report.py, tags_report.html.j2    videos with their tags
eval_report.py, eval_report.html.j2    metrics, classes, curves, confusions and mistakes
figures.py                             pictures for the evaluation report
model_card.py                          README.md of an export
"""
