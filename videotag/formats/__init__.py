"""Files on disk <-> NumPy arrays: lists, features, weights, records, predictions. Does not import Paddle.

    filelist.py         lists of videos or features, with labels
    feature_files.py    features (.npy, .npz) and the stamp that records how they were made
    weight_files.py     weights (.pdparams, .pth, .safetensors)
    pickles.py          pickles, without executing anything
    torch_files.py      PyTorch's .pth
    archives.py         zip and tar, with bounded memory
    yaml_text.py        YAML, with bounded memory
    predictions.py      predictions as JSON, JSON lines or CSV
    train_log.py        the log of a training run

YouTube-8M records come as TFRecords (tfrecord.py, tf_example.py, protobuf_wire.py, yt8m_records.py), as
PaddlePaddle's pickles (yt8m_pickles.py) or as memory-mapped shards (shards.py). record_files.py reads a
record of any of them by its index; record_index.py maps a record to its file.
"""
