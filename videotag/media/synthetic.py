"""Generates clips of colored shapes with several tags each, for tests, benchmarks and the demo.

Every clip shows one shape on a background. Its size, color or position changes over time, and an order tag
names the direction: "grows" or "shrinks", "red then blue" or "blue then red", "moves right" or "moves left".
Clips come in twins: the second has the frames of the first in reverse, so that only the order of frames, and
no single frame or mean over frames, distinguishes the two.
Shapes: T frames, S pixels a side.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Shape = Literal["circle", "square", "triangle"]

SHAPES: tuple[Shape, ...] = ("circle", "square", "triangle")
COLORS = {"red": (214, 40, 40), "green": (46, 160, 67), "blue": (38, 84, 214), "yellow": (240, 200, 20)}
BACKGROUNDS = ("dark", "light", "stripes", "noise")
WORDS = ("sale", "goal", "news")
TONES_HZ = {"low tone": 220, "high tone": 880}
#: What changes over time -> (tag of the first twin, tag of the reversed twin).
ORDERS = {
    "size": ("grows", "shrinks"),
    "colour": ("red then blue", "blue then red"),
    "place": ("moves right", "moves left"),
}
ORDER_TAGS = tuple(tag for pair in ORDERS.values() for tag in pair)
#: All tags in the order of their class ids.
TAGS = (
    *SHAPES,
    *COLORS,
    *(f"{name} background" for name in BACKGROUNDS),
    *ORDER_TAGS,
    *TONES_HZ,
    *(f"text {word}" for word in WORDS),
)
SOUND_RATE_HZ = 16_000
_SUPERSAMPLING = 2  # masks are drawn larger and scaled down to smooth their edges


@dataclass(frozen=True)
class ClipSpec:
    """The content of a clip; equal specs render to equal frames.

    Attributes:
        shape: One of SHAPES.
        color: Key of COLORS; unused if the color is what changes.
        background: One of BACKGROUNDS.
        change: What changes over time, a key of ORDERS.
        reverse: Whether the frames run backwards.
        seed: Seed of the position, the size and the background.
        tone: Key of TONES_HZ; None for no sound.
        word: One of WORDS; None for no text.
    """

    shape: Shape
    color: str
    background: str
    change: str
    reverse: bool = False
    seed: int = 0
    tone: str | None = None
    word: str | None = None

    @property
    def tags(self) -> tuple[str, ...]:
        """The clip's tags, in the order of TAGS."""
        shown = {self.shape, f"{self.background} background", ORDERS[self.change][self.reverse]}
        shown |= {"red", "blue"} if self.change == "colour" else {self.color}
        shown |= {self.tone} if self.tone else set()
        shown |= {f"text {self.word}"} if self.word else set()
        return tuple(tag for tag in TAGS if tag in shown)

    @property
    def label_ids(self) -> tuple[int, ...]:
        """The class ids of the tags, ascending."""
        return tuple(TAGS.index(tag) for tag in self.tags)

    def twin(self) -> ClipSpec:
        """The same clip with its frames in reverse order."""
        return replace(self, reverse=not self.reverse)

    def to_dict(self) -> dict[str, Any]:
        """The spec as a dict of JSON-serializable values."""
        return asdict(self)


def random_specs(num_clips: int, seed: int, *, tone: bool = False, text: bool = False) -> list[ClipSpec]:
    """Random specs, each clip followed by its twin; if num_clips is odd, the last clip has none.

    Args:
        num_clips: Number of specs.
        seed: Seed of the random choices.
        tone: Whether about two thirds of the clips get a tone.
        text: Whether about three quarters of the clips get a word.
    """
    rng = np.random.default_rng(seed)
    specs = []
    for index in range(-(-num_clips // 2)):
        spec = ClipSpec(
            shape=SHAPES[rng.integers(len(SHAPES))],
            color=list(COLORS)[rng.integers(len(COLORS))],
            background=BACKGROUNDS[rng.integers(len(BACKGROUNDS))],
            change=list(ORDERS)[index % len(ORDERS)],
            seed=int(rng.integers(2**31)),
            tone=[None, *TONES_HZ][rng.integers(3)] if tone else None,
            word=[None, *WORDS][rng.integers(len(WORDS) + 1)] if text else None,
        )
        specs += [spec, spec.twin()]
    return specs[:num_clips]


def render(spec: ClipSpec, *, num_frames: int, size_px: int) -> np.ndarray:
    """Renders the frames of a clip.

    Args:
        spec: Content of the clip.
        num_frames: Number T of frames.
        size_px: Side S of the square frames in pixels.

    Returns:
        (T, S, S, 3) uint8 RGB, C-contiguous.
    """
    rng = np.random.default_rng(spec.seed)
    frames = np.repeat(_background(spec.background, size_px, rng)[None], num_frames, axis=0)
    middle = rng.uniform(0.4, 0.6, size=2)
    radius = rng.uniform(0.14, 0.2)
    for index, frame in enumerate(frames):
        phase = index / max(1, num_frames - 1)
        x = 0.22 + 0.56 * phase if spec.change == "place" else middle[0]
        r = 0.08 + 0.24 * phase if spec.change == "size" else radius
        color = ("red" if phase < 0.5 else "blue") if spec.change == "colour" else spec.color
        draw_shape(frame, spec.shape, color, center=(x, middle[1]), radius=r)
        if spec.word:
            _draw_word(frame, spec.word)
    return np.ascontiguousarray(frames[::-1]) if spec.reverse else frames


def sound(spec: ClipSpec, duration_sec: float) -> tuple[np.ndarray, int] | None:
    """The clip's tone: (samples,) float32 mono in [-1, 1] and the sample rate in Hz; None without a tone.

    Args:
        spec: Content of the clip.
        duration_sec: Duration of the tone in seconds.
    """
    if spec.tone is None:
        return None
    time = np.arange(round(duration_sec * SOUND_RATE_HZ)) / SOUND_RATE_HZ
    return (0.3 * np.sin(2 * np.pi * TONES_HZ[spec.tone] * time)).astype(np.float32), SOUND_RATE_HZ


def draw_shape(
    frame: np.ndarray, shape: Shape, color: str, *, center: tuple[float, float], radius: float
) -> None:
    """Draws an anti-aliased shape into a frame, in place.

    Args:
        frame: (H, W, 3) uint8 RGB frame of any size.
        shape: One of SHAPES.
        color: Key of COLORS.
        center: Coordinates x and y as fractions of the width and the height.
        radius: Radius as a fraction of the shorter side.
    """
    height, width = frame.shape[:2]
    scale = _SUPERSAMPLING
    x, y, r = center[0] * width * scale, center[1] * height * scale, radius * min(height, width) * scale
    mask = Image.new("L", (width * scale, height * scale))
    pen = ImageDraw.Draw(mask)
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
    elif shape == "square":
        pen.rectangle((x - 0.9 * r, y - 0.9 * r, x + 0.9 * r, y + 0.9 * r), fill=255)
    else:
        pen.polygon([(x, y - r), (x - r, y + 0.8 * r), (x + r, y + 0.8 * r)], fill=255)
    alpha = np.asarray(mask.resize((width, height), Image.Resampling.BOX), np.float32)[..., None] / 255
    frame[:] = np.round(frame * (1 - alpha) + np.array(COLORS[color], np.float32) * alpha)


def _background(name: str, size_px: int, rng: np.random.Generator) -> np.ndarray:
    """The background as (S, S, 3) uint8 RGB."""
    gray = {"dark": 30, "light": 225, "stripes": 128, "noise": 128}[name]
    image = np.full((size_px, size_px, 3), gray, np.float32)
    if name == "stripes":
        image += 60 * np.sign(np.sin(np.arange(size_px) * 2 * np.pi * 8 / size_px))[None, :, None]
    if name == "noise":
        coarse = rng.uniform(-80, 80, size=(16, 16))  # in blocks, since fine noise does not survive encoding
        cell = np.arange(size_px) * 16 // size_px
        image += coarse[cell][:, cell][..., None]
    return image.clip(0, 255).astype(np.uint8)


def _draw_word(frame: np.ndarray, word: str) -> None:
    """Draws a word at the lower edge of a frame (S, S, 3), white on black, in place."""
    height, width = frame.shape[:2]
    bar = max(10, height // 7)
    image = Image.new("RGB", (width, bar))
    ImageDraw.Draw(image).text(
        (4, 0), word.upper(), fill="white", font=ImageFont.load_default(size=bar * 0.8)
    )
    frame[height - bar :] = np.asarray(image)
