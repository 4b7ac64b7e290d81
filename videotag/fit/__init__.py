"""From labeled videos to a tagger: `videotag fit`, and the lists and checks that other commands share.

run.py is a fit from features to fit.yaml. samples.py finds its videos, features.py extracts them,
candidates.py names the models to compare, cross_validation.py scores them, choice.py chooses,
learning_curve.py says what more videos would give. result.py holds options and results, record.py writes
fit.yaml, and report.py the page. baseline.py is the logistic regression of eval's page.

video_sources.py finds videos with their labels and groups; splits.py assigns groups to train, val and test;
lists.py writes train.list, val.list, test.list and labels.txt: `videotag lists`. check.py finds problems of
features before training: `videotag check`; near_duplicates.py finds nearly equal videos.
"""
