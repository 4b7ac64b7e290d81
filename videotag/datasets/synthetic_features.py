"""Generated frame features whose tags follow known rules: what a tagger can tell at all shows on them.

Three kinds of tags:
  - content: a vector of the tag's own, in rgb or in audio alone, shows in a share of the steps; how many
    videos have it falls along a long tail;
  - cooccurrence: follows from two content tags and shows in nothing else: the video has both ("and"), or
    exactly one of them ("xor");
  - order: two events of which one comes first. Videos come in twins, the second with the steps of the first
    in reverse and the other tag of order: the same multiset of steps, so that no pooling over them tells
    twins apart.
Features are quantized to bytes as YouTube-8M's, and come as its records.
Shapes: T steps, D width of a modality, V events (content tags, then both events of every pair of order).
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
_HEAD, _SLOPE, _BEND = 0.35, 1.3, 4  # share of videos with content tag k: HEAD * (1 + k / BEND) ** -SLOPE
_AUDIO_EVERY = 4  # every fourth content tag is heard, not seen
_SHOWN = (0.15, 0.5)  # share of the steps that a content tag shows in
_EVENT = (0.2, 0.35)  # share of the steps that an event of a pair of order takes
_STRENGTH = (0.7, 1.3)  # of a tag in a video, as a factor on its vector


@dataclass(frozen=True)
class FeatureOptions:
    """Size and difficulty of generated features.

    Attributes:
        num_steps: least and most T, at least 4.
        dims: width D by modality; "rgb" and "audio" alone are filled with content.
        num_content: tags of kind content, at least 4.
        num_cooccurrence: tags of kind cooccurrence, "and" and "xor" in turn; each needs a pair of its own
            among the num_content / 4 most frequent content tags (4 at least).
        num_order_pairs: pairs of events; each gives two tags of kind order.
        order_share: share of the twins that show a pair of events.
        noise: standard deviation of every feature, where vectors of tags have length 1.
    """

    num_steps: tuple[int, int] = (8, 16)
    dims: dict[str, int] = field(default_factory=lambda: {"rgb": 64, "audio": 16})
    num_content: int = 32
    num_cooccurrence: int = 8
    num_order_pairs: int = 3
    order_share: float = 0.75
    noise: float = 0.22

    def __post_init__(self) -> None:
        """Checks that the sizes go together.

        Raises:
            ConfigError: they do not.
        """
        least, most = self.num_steps
        if not 4 <= least <= most:
            raise ConfigError(f"num_steps {self.num_steps}: expected least and most, from 4 on")
        if set(self.dims) != {"rgb", "audio"} or min(self.dims.values()) < 1:
            raise ConfigError(f"dims {self.dims}: expected a width from 1 for rgb and for audio")
        if self.num_content < _AUDIO_EVERY:
            raise ConfigError(f"num_content {self.num_content}: expected {_AUDIO_EVERY} or more")
        pairs = len(list(itertools.combinations(range(self.num_frequent), 2)))
        if not 0 <= self.num_cooccurrence <= pairs:
            raise ConfigError(
                f"num_cooccurrence {self.num_cooccurrence}: expected 0 to {pairs}, the pairs of "
                f"{self.num_frequent} frequent tags; raise num_content"
            )

    @property
    def num_frequent(self) -> int:
        """Content tags that co-occurrence looks at: the first ones."""
        return max(4, self.num_content // 4)


class Rule(NamedTuple):
    """When a video has a tag of co-occurrence."""

    first: int  # class ids of two content tags
    second: int
    exactly_one: bool  # "xor"; else both, "and"

    def holds(self, content: np.ndarray) -> bool:
        """Whether a video with these content tags, (num_content,) bool, has the tag."""
        first, second = bool(content[self.first]), bool(content[self.second])
        return first != second if self.exactly_one else first and second


class FeatureSet:
    """Vectors and rules that a seed decides, and videos made of them.

    Class ids: content tags, the most frequent first; tags of co-occurrence; then both tags of every pair of
    order, "A before B" and "B before A".

    Args:
        options: sizes.
        seed: of vectors, rules and videos.

    Attributes:
        kinds: of every class.
        names: of every class.
        shares: (num_content,) share of the videos that a content tag is drawn for.
        rules: one per tag of co-occurrence.
        vectors: modality -> (V, D) float64, of length 1; zeros where a tag does not show in the modality.
    """

    def __init__(self, options: FeatureOptions, *, seed: int) -> None:
        rng = np.random.default_rng([seed, 0])
        self.options, self._seed = options, seed
        ranks = np.arange(options.num_content)
        self.shares = _HEAD * (1 + ranks / _BEND) ** -_SLOPE
        self.rules = self._draw_rules(rng)
        self.vectors = self._draw_vectors(rng)
        pairs = range(options.num_order_pairs)
        counts = (options.num_content, options.num_cooccurrence, 2 * options.num_order_pairs)
        self.kinds = tuple(kind for kind, count in zip(KINDS, counts, strict=True) for _ in range(count))
        self.names = (
            *(f"content {k} ({'audio' if _is_heard(k) else 'rgb'})" for k in range(options.num_content)),
            *(f"{'either' if r.exactly_one else 'both'} {r.first} and {r.second}" for r in self.rules),
            *(name for p in pairs for name in (f"A{p} before B{p}", f"B{p} before A{p}")),
        )

    @property
    def num_classes(self) -> int:
        """Tags of all kinds."""
        return len(self.kinds)

    def classes_of(self, kind: Kind) -> np.ndarray:
        """The class ids of a kind, ascending, int64."""
        return np.flatnonzero(np.array(self.kinds) == kind)

    def records(self, num_videos: int, *, split: str) -> Iterator[YT8MRecord]:
        """Videos, twins side by side; an odd number leaves the last one alone.

        Args:
            num_videos: how many; the first ones are the same whatever the number.
            split: a name that begins the video ids; each has videos of its own.
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
        # The most frequent pairs that there are, lest a tag be too rare to be measured.
        pairs.sort(key=lambda pair: sum(pair))
        kept = pairs[: options.num_cooccurrence]
        order = rng.permutation(len(kept))
        return tuple(
            Rule(kept[place][0], kept[place][1], exactly_one=bool(i % 2)) for i, place in enumerate(order)
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
        """The first of two twins."""
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
        """Shows a pair of events in `shown` (T, V), in place, and returns the class id of their order."""
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
        """The steps in reverse, and the other tag of order."""
        first = self._first_order_class
        swapped = [first + ((i - first) ^ 1) if i >= first else i for i in record.labels.tolist()]
        features = {name: np.ascontiguousarray(x[::-1]) for name, x in record.features.items()}
        return YT8MRecord(f"{record.video_id[:-1]}b", np.array(swapped, np.int64), features)


def _is_heard(tag: int) -> bool:
    """Whether a content tag shows in audio and not in rgb."""
    return tag % _AUDIO_EVERY == _AUDIO_EVERY - 1
