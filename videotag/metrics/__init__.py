"""How good scores are: Hit@1, PERR, GAP and mAP for many labels per video, top-k for one label.

Each metric is one file with a function over whole arrays and an accumulator that takes batches:

    gap(scores, labels)                       metric = Gap()
                                              metric.update(scores, labels)   # per batch
                                              metric.merge(metric_of_another_process)
                                              metric.compute()

An accumulator answers the same, to the last bit, for any split into batches and any order of merges.
TaggingMetrics and SingleLabelMetrics compute all metrics of a task from one pass over the scores.
PerClass, Confusion, MissedTags, ScoreHistograms and Mistakes show where a network is good and bad; an
evaluation calls their update(scores, labels, video_ids) as observers. mean_ap_by_group parts PerClass's table
into frequent and rare classes.
To add a metric, add a file like hit_at_one.py (a mean over videos) or gap.py (over all kept entries).

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
