"""Converts weight files between the names of videotag, VideoTag, PaddleVideo, paddle.vision and torchvision.

    python tools/convert_weights.py video_tag_tsn.tar tsn.safetensors --config=configs/tsn.yaml --to=torchvision

SOURCE may be anything that `--weights` takes. TARGET's suffix decides the kind of file: .pdparams or
.safetensors. What SOURCE lacks (a classifier, as extractors have none) TARGET lacks too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from videotag.config import load_config
from videotag.engine.checkpoint import WeightsOrigin, fit_state, network_state
from videotag.errors import EXIT_OK, EXIT_USAGE, ConfigError, VideotagError
from videotag.formats.weights import read_weights, write_pdparams, write_safetensors
from videotag.models import load_models
from videotag.weights import find_weights
