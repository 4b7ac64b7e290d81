"""A trained network at work: features, tags, metrics and exports, of one file or of lists.

trained_model.py turns weights, config and labels into something that runs, over load_weights.py,
ensemble.py and mean_logits.py. data.py opens the lists of a config; predict.py, evaluate.py (over tasks.py)
and export.py work on them. extractor.py is the first stage. tagger.py is the simple interface of
predictor.py, which takes requests from any thread, and of frame_tagging.py; tag_result.py is the result, and
weights_stage.py reads what a user names for each stage, and fit_folder.py reads what `videotag fit` wrote.

jobs.py runs a resumable job over a list: extract.py makes features of videos, frame_folders.py folders of
pictures, and features.py features of posts (posts.py), read by post_reader.py, with feature_networks.py by
feature_options.py. load_senses.py loads what finds shots, text, speech and sounds.
outputs.py and input_files.py decide what may be written where; list_sample.py and frozen_runtime.py select
backend and precision before work. parallel.py connects several processes.

Importing a module loads Paddle only where it computes in Paddle, so that an export for another backend runs
without it.
"""
