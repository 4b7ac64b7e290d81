"""From a folder or CSV of videos to lists that a tagger is trained on.

video_sources.py finds videos with their labels and groups.
splits.py assigns groups to train, val and test.
lists.py writes train.list, val.list, test.list and labels.txt: `videotag lists`.
check.py finds problems of features before training: `videotag check`.
near_duplicates.py finds videos in different lists whose features are nearly the same.
"""
