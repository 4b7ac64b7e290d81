"""Evaluation metrics: Hit@1, PERR, GAP and mAP for multi-label tagging, top-k accuracy for single labels.

Each metric is one file with a function over whole arrays and an accumulator that takes batches:

    gap(scores, labels)                       metric = Gap()
                                              metric.update(scores, labels)   # per batch
                                              metric.merge(metric_of_another_process)
                                              metric.compute()

The result of an accumulator is bitwise independent of the split into batches and of the order of merges.
TaggingMetrics and SingleLabelMetrics compute all metrics of a task in one pass over the scores.
PerClass, Confusion, MissedTags, ScoreHistograms and Mistakes show strengths and weaknesses of a network. An
evaluation passes each batch to them, as observers, by update(scores, labels, video_ids). mean_ap_by_group
averages PerClass's table over frequent and over rare classes.
A new metric is a file like hit_at_one.py (a mean over videos) or gap.py (over all kept entries).

NumPy only: nothing here loads Paddle.
"""

from videotag.metrics.confusion import Confusion, MissedTags
from videotag.metrics.frequency_groups import frequency_groups, mean_ap_by_group
from videotag.metrics.gap import Gap, gap
from videotag.metrics.hit_at_one import HitAtOne, hit_at_one
from videotag.metrics.mean_ap import MeanAp, mean_ap
from videotag.metrics.mistakes import Mistake, Mistakes
from videotag.metrics.per_class import PerClass, PerClassTable
from videotag.metrics.perr import Perr, perr
from videotag.metrics.pr_curve import Curve, ScoreHistograms
from videotag.metrics.single_label import SingleLabelMetrics
from videotag.metrics.tagging import TaggingMetrics
from videotag.metrics.topk import TopKAccuracy, topk_accuracy

__all__ = [
    "Confusion",
    "Curve",
    "Gap",
    "HitAtOne",
    "MeanAp",
    "MissedTags",
    "Mistake",
    "Mistakes",
    "PerClass",
    "PerClassTable",
    "Perr",
    "ScoreHistograms",
    "SingleLabelMetrics",
    "TaggingMetrics",
    "TopKAccuracy",
    "frequency_groups",
    "gap",
    "hit_at_one",
    "mean_ap",
    "mean_ap_by_group",
    "perr",
    "topk_accuracy",
]
