"""From labeled videos to a tagger: `videotag fit`, and the lists and checks that other commands share.

run.py lists the stages of a fit. samples.py finds its videos, features.py extracts them, copies.py keeps
near-duplicates together, labeled_set.py holds training and test set. comparison.py compares candidates on the
training set: candidates.py names them, cross_validation.py scores them, choice.py chooses, learning_curve.py
says what more videos would give. final_models.py trains and tests the chosen ones. options.py and result.py
hold options and results, record.py writes fit.yaml, and report.py the page. baseline.py is the logistic
regression of eval's page.

video_sources.py finds videos with their labels and groups; splits.py assigns groups to train, val and test;
lists.py writes train.list, val.list, test.list and labels.txt: `videotag lists`. check.py finds problems of
features before training: `videotag check`; near_duplicates.py finds nearly equal videos.
"""
