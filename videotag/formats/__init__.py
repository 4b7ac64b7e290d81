"""Files on disk <-> NumPy arrays: lists, features, weights, records, predictions. No Paddle here.

filelist.py reads lists; feature_files.py features (.npy, .npz) with their stamps; weight_files.py weights
(.pdparams, .pth, .safetensors), by pickles.py, a reader that executes nothing, and torch_files.py;
archives.py zip and tar files within bounds; yaml_text.py YAML within bounds; predictions.py predictions.
Records of YouTube-8M stand in TFRecords (tfrecord.py, tf_example.py, protobuf_wire.py, yt8m_records.py), in
PaddlePaddle's pickles (yt8m_pickles.py) or in memory-mapped shards (shards.py); record_files.py reads all
three by number, record_index.py says which record stands in which file.
"""
