"""Synthetic frame features whose tags follow known rules, to test what a tagger can learn.

Three kinds of tags:
  - content: the tag's own vector is added, in rgb or audio only, to some of the steps; the frequencies of the
    tags have a long tail;
  - cooccurrence: depends on two content tags and has no vector: the video has both ("and"), or exactly one of
    them ("xor");
  - order: which of two events comes first. Videos come in twins; the second has the steps of the first in
    reverse and the opposite order tag. Both have the same multiset of steps, so that order-independent
    pooling cannot distinguish them.
Features are quantized to uint8 like YouTube-8M's, and returned as its records.
Shapes: T steps, D width of a modality, V vectors (of content tags, then of both events of every order pair).
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import numpy as np

from videotag.errors import ConfigError
from videotag.formats.yt8m_records import YT8MRecord, quantize

Kind = Literal["content", "cooccurrence", "order"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_HEAD, _SLOPE, _BEND = 0.35, 1.3, 4  # frequency of content tag k: HEAD * (1 + k / BEND) ** -SLOPE
_AUDIO_EVERY = 4  # every fourth content tag is in audio, the others are in rgb
_SHOWN = (0.15, 0.5)  # range of the fraction of steps with a content tag
_EVENT = (0.2, 0.35)  # range of the fraction of steps of an event
_STRENGTH = (0.7, 1.3)  # range of the factor of a tag's vector in a video


@dataclass(frozen=True)
class SyntheticOptions:
    """Size and difficulty of synthetic features.

    Attributes:
        num_steps: Minimum and maximum of T, at least 4.
        dims: Width D by modality, of "rgb" and "audio".
        num_content: Number of content tags, at least 4.
        num_cooccurrence: Number of cooccurrence tags, alternately "and" and "xor"; each uses a different pair
            of the num_content / 4 (at least 4) most frequent content tags.
        num_order_pairs: Number of pairs of events; each gives two order tags.
        order_share: Fraction of the twins with a pair of events.
        noise: Standard deviation of the noise per feature; vectors of tags have unit length.
    """

    num_steps: tuple[int, int] = (8, 16)
    dims: dict[str, int] = field(default_factory=lambda: {"rgb": 64, "audio": 16})
    num_content: int = 32
    num_cooccurrence: int = 8
    num_order_pairs: int = 3
    order_share: float = 0.75
    noise: float = 0.22

    def __post_init__(self) -> None:
        """Validates the options.

        Raises:
            ConfigError: An option is out of range.
        """
        least, most = self.num_steps
        if not 4 <= least <= most:
            raise ConfigError(f"num_steps {self.num_steps}: expected minimum and maximum, at least 4")
        if set(self.dims) != {"rgb", "audio"} or min(self.dims.values()) < 1:
            raise ConfigError(f"dims {self.dims}: expected a width of at least 1 for rgb and for audio")
        if self.num_content < _AUDIO_EVERY:
            raise ConfigError(f"num_content {self.num_content}: expected {_AUDIO_EVERY} or more")
        pairs = len(list(itertools.combinations(range(self.num_frequent), 2)))
        if not 0 <= self.num_cooccurrence <= pairs:
            raise ConfigError(
                f"num_cooccurrence {self.num_cooccurrence}: expected 0 to {pairs}, the number of pairs of "
                f"{self.num_frequent} frequent tags; increase num_content"
            )

    @property
    def num_frequent(self) -> int:
        """The number of content tags that cooccurrence tags depend on, the most frequent ones."""
        return max(4, self.num_content // 4)


class Rule(NamedTuple):
    """Rule of a cooccurrence tag.

    Attributes:
        first, second: Class ids of two content tags.
        exactly_one: Whether a video must have exactly one of them ("xor") instead of both ("and").
    """

    first: int
    second: int
    exactly_one: bool

    def holds(self, content: np.ndarray) -> bool:
        """Whether a video with these content tags, (num_content,) bool, has the cooccurrence tag."""
        first, second = bool(content[self.first]), bool(content[self.second])
        return first != second if self.exactly_one else first and second


class FeatureSet:
    """Random vectors and rules, and videos generated from them.

    Class ids are assigned to content tags, the most frequent first, then to cooccurrence tags, then to both
    tags of every order pair, "A before B" and "B before A".

    Args:
        options: Size and difficulty of the features.
        seed: Seed of vectors, rules and videos.

    Attributes:
        types: Type of every class.
        names: Name of every class.
        shares: (num_content,) float64, probability of every content tag.
        rules: Rule of every cooccurrence tag.
        vectors: (V, D) float64 of unit length by modality; zeros if a tag is not in the modality.
    """

    def __init__(self, options: SyntheticOptions, *, seed: int) -> None:
        rng = np.random.default_rng([seed, 0])
        self.options, self._seed = options, seed
        ranks = np.arange(options.num_content)
        self.shares = _HEAD * (1 + ranks / _BEND) ** -_SLOPE
        self.rules = self._draw_rules(rng)
        self.vectors = self._draw_vectors(rng)
        pairs = range(options.num_order_pairs)
        counts = (options.num_content, options.num_cooccurrence, 2 * options.num_order_pairs)
        self.types = tuple(kind for kind, count in zip(KINDS, counts, strict=True) for _ in range(count))
        self.names = (
            *(f"content {k} ({'audio' if _is_heard(k) else 'rgb'})" for k in range(options.num_content)),
            *(f"{'either' if r.exactly_one else 'both'} {r.first} and {r.second}" for r in self.rules),
            *(name for p in pairs for name in (f"A{p} before B{p}", f"B{p} before A{p}")),
        )

    @property
    def num_classes(self) -> int:
        """The number of tags of all kinds."""
        return len(self.types)

    def classes_of(self, kind: Kind) -> np.ndarray:
        """The class ids of a kind, ascending: (K,) int64 for K classes."""
        return np.flatnonzero(np.array(self.types) == kind)

    def records(self, num_videos: int, *, split: str) -> Iterator[YT8MRecord]:
        """Generates videos, with twins next to each other; if the number is odd, the last has no twin.

        Args:
            num_videos: Number of videos; a larger number only appends videos.
            split: Name of the split, the prefix of the video ids; every split has different videos.
        """
        for index in range(-(-num_videos // 2)):
            rng = np.random.default_rng([self._seed, 1, zlib.crc32(split.encode()), index])
            first = self._video(rng, f"{split}-{index:06d}")
            yield first
            if 2 * index + 1 < num_videos:
                yield self._twin(first)

    def _draw_rules(self, rng: np.random.Generator) -> tuple[Rule, ...]:
        options = self.options
        pairs = list(itertools.combinations(range(options.num_frequent), 2))
        # The most frequent pairs, so that no tag is too rare to measure.
        pairs.sort(key=lambda pair: sum(pair))
        kept = pairs[: options.num_cooccurrence]
        order = rng.permutation(len(kept))
        return tuple(
            Rule(kept[index][0], kept[index][1], exactly_one=bool(i % 2)) for i, index in enumerate(order)
        )

    def _draw_vectors(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        options = self.options
        heard = np.array([_is_heard(k) for k in range(options.num_content)])
        heard = np.concatenate([heard, np.zeros(2 * options.num_order_pairs, bool)])  # (V,)
        vectors = {}
        for name, shown in (("rgb", ~heard), ("audio", heard)):
            drawn = rng.standard_normal((len(heard), options.dims[name]))
            drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
            vectors[name] = drawn * shown[:, None]  # (V, D)
        return vectors

    def _video(self, rng: np.random.Generator, name: str) -> YT8MRecord:
        """The first video of a pair of twins."""
        options = self.options
        num_steps = int(rng.integers(options.num_steps[0], options.num_steps[1], endpoint=True))
        content = rng.random(options.num_content) < self.shares  # (num_content,)
        if not content.any():
            content[rng.choice(options.num_content, p=self.shares / self.shares.sum())] = True
        shown = np.zeros((num_steps, len(self.vectors["rgb"])))  # (T, V)
        for tag in np.flatnonzero(content):
            count = max(1, round(num_steps * rng.uniform(*_SHOWN)))
            shown[rng.choice(num_steps, count, replace=False), tag] = rng.uniform(*_STRENGTH)
        label_ids = [*np.flatnonzero(content)]
        label_ids += [options.num_content + i for i, rule in enumerate(self.rules) if rule.holds(content)]
        if options.num_order_pairs and rng.random() < options.order_share:
            label_ids.append(self._add_order(rng, shown))
        features = {}
        for modality, vectors in self.vectors.items():
            noise = options.noise * rng.standard_normal((num_steps, vectors.shape[1]))
            features[modality] = quantize(shown @ vectors + noise)  # (T, D)
        return YT8MRecord(f"{name}a", np.array(label_ids, np.int64), features)

    def _add_order(self, rng: np.random.Generator, shown: np.ndarray) -> int:
        """Adds a pair of events to `shown` (T, V) in place; returns the class id of their order."""
        options, num_steps = self.options, len(shown)
        pair, reverse = int(rng.integers(options.num_order_pairs)), int(rng.integers(2))
        lengths = [max(1, int(num_steps * rng.uniform(*_EVENT))) for _ in range(2)]
        free = num_steps - sum(lengths)
        gaps = np.sort(rng.integers(0, free, size=2, endpoint=True))  # free steps before the first and second
        starts = (gaps[0], gaps[1] + lengths[0])
        event = options.num_content + 2 * pair
        for start, length, which in zip(starts, lengths, (reverse, 1 - reverse), strict=True):
            shown[start : start + length, event + which] = rng.uniform(*_STRENGTH)
        return self._first_order_class + 2 * pair + reverse

    @property
    def _first_order_class(self) -> int:
        return self.options.num_content + self.options.num_cooccurrence

    def _twin(self, record: YT8MRecord) -> YT8MRecord:
        """The twin of a video: its steps in reverse, and the opposite order tag."""
        first = self._first_order_class
        swapped = [first + ((i - first) ^ 1) if i >= first else i for i in record.labels.tolist()]
        features = {name: np.ascontiguousarray(x[::-1]) for name, x in record.features.items()}
        return YT8MRecord(f"{record.video_id[:-1]}b", np.array(swapped, np.int64), features)


def _is_heard(tag: int) -> bool:
    """Whether a content tag is in audio instead of rgb."""
    return tag % _AUDIO_EVERY == _AUDIO_EVERY - 1
