"""The problems of small_sets.py that need no other files, made from seeds."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import demo
from small_set_clips import FilmProblem, GeneratedProblem
from small_set_pools import NoisyProblem, Problem

from videotag.media.synthetic import BACKGROUNDS, COLORS, ORDER_TAGS, ORDERS, SHAPES

_CONTENT_TAGS = (*SHAPES, *COLORS, *(f"{name} background" for name in BACKGROUNDS))
_ALL_TAGS = GeneratedProblem(
    "all_tags",
    "all tags of moving shapes",
    "multi_label",
    (*_CONTENT_TAGS, *ORDER_TAGS),
    groups={"": (120, 80)},
    seed=1,
    contrast=0.4,
    noise=40,
)
_RARE_COUNTS = (60, 45, 34, 25, 19, 14, 11, 8, 6, 5)
_RARE_LABELS = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)[: len(_RARE_COUNTS)]
_CHANGES = tuple(f"changes {name}" for name in ORDERS)

#: All problems that need no other files.
PROBLEMS: tuple[Problem, ...] = (
    _ALL_TAGS,
    NoisyProblem(
        "all_tags_noise_1", "all_tags, features with noise", "multi_label", _ALL_TAGS.labels, _ALL_TAGS, 1.0
    ),
    NoisyProblem(
        "all_tags_noise_3",
        "all_tags, features with more noise",
        "multi_label",
        _ALL_TAGS.labels,
        _ALL_TAGS,
        3.0,
    ),
    GeneratedProblem(
        "many_clips",
        "all tags at low contrast, 1,000 clips",
        "multi_label",
        _ALL_TAGS.labels,
        groups={"": (500, 150)},
        seed=2,
        contrast=0.2,
        noise=50,
    ),
    GeneratedProblem(
        "order",
        "the order of events, which no statistic of single frames tells",
        "single_label",
        ORDER_TAGS,
        groups={name: (40, 27) for name in _CHANGES},
        seed=3,
    ),
    GeneratedProblem(
        "change",
        "what changes: size, color or place",
        "single_label",
        _CHANGES,
        groups={name: (15, 25) for name in _CHANGES},
        seed=4,
        contrast=0.5,
        noise=60,
    ),
    GeneratedProblem(
        "noisy_shapes",
        "shapes in noise",
        "single_label",
        SHAPES,
        groups={"circle": (14, 50), "square": (13, 50), "triangle": (13, 50)},
        twins=False,
        seed=5,
        contrast=0.5,
        noise=40,
    ),
    GeneratedProblem(
        "tiny",
        "circle or square, 20 clips",
        "single_label",
        ("circle", "square"),
        groups={"circle": (10, 60), "square": (10, 60)},
        twins=False,
        seed=6,
        noise=20,
    ),
    GeneratedProblem(
        "rare_classes",
        "shapes of a color, 5 to 60 clips a class",
        "single_label",
        _RARE_LABELS,
        groups={name: (count, 20) for name, count in zip(_RARE_LABELS, _RARE_COUNTS, strict=True)},
        twins=False,
        seed=7,
        contrast=0.4,
        noise=40,
    ),
    GeneratedProblem(
        "flash",
        "the color of a square that is visible in 4 of 12 frames",
        "single_label",
        tuple(f"{color} flash" for color in COLORS),
        groups={f"{color} flash": (60, 40) for color in COLORS},
        twins=False,
        seed=8,
        flash_frames=4,
    ),
    FilmProblem("film", "what film shows, and drawn shapes", "multi_label", tuple(demo.LABELS)),
)
