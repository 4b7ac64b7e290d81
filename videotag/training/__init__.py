"""Training: epochs of steps on one or several processes, checkpoints, and what --resume needs.

train.py is a training from lists to checkpoints, run.py its epochs, learner.py one step, over optim.py,
losses.py, gradients.py (of several processes), feature_augment.py and teachers.py. make_learner.py makes the
learner of a run, and resume.py restores it. batches.py orders an epoch. checkpoint.py and run_state.py write
and find checkpoints, run_log.py writes the log. sizes.py checks that a run fits into memory. launch.py starts
a process per GPU.

last_layer_solver.py takes learner.py's place for the optimizer "lbfgs", over logistic.py and folds.py. Before
the first step, calibrate.py measures the training set, range_test.py the learning rate, and probe.py what
fine-tuning has to beat. fitted_config.py reads the config of a run, with classes and widths from the data;
threads.py limits threads.

A run is decided by its config, its lists and its seed; resumed at any checkpoint, it gives the same
weights.
"""
