"""Generated clips of coloured shapes with several tags each: what tests, benchmarks and the demo stand on.

Every clip shows one shape before a background. One thing changes over time: its size, its colour or its
place; and the tag of ORDER says in which direction: "grows" or "shrinks", "red then blue" or "blue then
red", "moves right" or "moves left". Clips come in twins: the second holds the frames of the first in reverse.
So no single frame and no mean over frames can tell the two apart, only the order can.
Shapes: T frames, S pixels a side.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Shape = Literal["circle", "square", "triangle"]

SHAPES: tuple[Shape, ...] = ("circle", "square", "triangle")
COLOURS = {"red": (214, 40, 40), "green": (46, 160, 67), "blue": (38, 84, 214), "yellow": (240, 200, 20)}
BACKGROUNDS = ("dark", "light", "stripes", "noise")
WORDS = ("sale", "goal", "news")
TONES_HZ = {"low tone": 220, "high tone": 880}
#: what changes -> (tag of the first twin, tag of the reversed one)
ORDERS = {
    "size": ("grows", "shrinks"),
    "colour": ("red then blue", "blue then red"),
    "place": ("moves right", "moves left"),
}
ORDER_TAGS = tuple(tag for pair in ORDERS.values() for tag in pair)
#: All tags in the order of their class ids.
TAGS = (
    *SHAPES,
    *COLOURS,
    *(f"{name} background" for name in BACKGROUNDS),
    *ORDER_TAGS,
    *TONES_HZ,
    *(f"text {word}" for word in WORDS),
)
SOUND_RATE_HZ = 16_000
_SUPERSAMPLING = 2  # masks are drawn larger and scaled down, which smooths their edges


@dataclass(frozen=True)
class ClipSpec:
    """Everything that a clip shows; equal specs render to equal frames.

    Attributes:
        shape: of SHAPES.
        colour: of COLOURS; not used where the colour is what changes.
        background: of BACKGROUNDS.
        change: what changes over time, a key of ORDERS.
        reverse: whether the frames run backwards.
        seed: of place, size and background.
        tone: of TONES_HZ, or None for no sound.
        word: of WORDS, or None for no text.
    """

    shape: Shape
    colour: str
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
        shown |= {"red", "blue"} if self.change == "colour" else {self.colour}
        shown |= {self.tone} if self.tone else set()
        shown |= {f"text {self.word}"} if self.word else set()
        return tuple(tag for tag in TAGS if tag in shown)

    @property
    def label_ids(self) -> tuple[int, ...]:
        """The tags' class ids, ascending."""
        return tuple(TAGS.index(tag) for tag in self.tags)

    def twin(self) -> ClipSpec:
        """The same clip with its frames in reverse."""
        return replace(self, reverse=not self.reverse)

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON can hold it."""
        return asdict(self)


def random_specs(num_clips: int, seed: int, *, tone: bool = False, text: bool = False) -> list[ClipSpec]:
    """num_clips specs, a clip and its twin side by side; an odd number leaves the last one alone.

    Args:
        num_clips: how many.
        seed: the same seed gives the same specs.
        tone: about two thirds of the clips get a tone.
        text: about three quarters get a word.
    """
    rng = np.random.default_rng(seed)
    specs = []
    for index in range(-(-num_clips // 2)):
        spec = ClipSpec(
            shape=SHAPES[rng.integers(len(SHAPES))],
            colour=list(COLOURS)[rng.integers(len(COLOURS))],
            background=BACKGROUNDS[rng.integers(len(BACKGROUNDS))],
            change=list(ORDERS)[index % len(ORDERS)],
            seed=int(rng.integers(2**31)),
            tone=[None, *TONES_HZ][rng.integers(3)] if tone else None,
            word=[None, *WORDS][rng.integers(len(WORDS) + 1)] if text else None,
        )
        specs += [spec, spec.twin()]
    return specs[:num_clips]


def render(spec: ClipSpec, *, num_frames: int, size_px: int) -> np.ndarray:
    """The clip's frames, (T, S, S, 3) uint8."""
    rng = np.random.default_rng(spec.seed)
    frames = np.repeat(_background(spec.background, size_px, rng)[None], num_frames, axis=0)
    middle = rng.uniform(0.4, 0.6, size=2)
    radius = rng.uniform(0.14, 0.2)
    for index, frame in enumerate(frames):
        phase = index / max(1, num_frames - 1)
        x = 0.22 + 0.56 * phase if spec.change == "place" else middle[0]
        r = 0.08 + 0.24 * phase if spec.change == "size" else radius
        colour = ("red" if phase < 0.5 else "blue") if spec.change == "colour" else spec.colour
        draw_shape(frame, spec.shape, colour, center=(x, middle[1]), radius=r)
        if spec.word:
            _draw_word(frame, spec.word)
    return np.ascontiguousarray(frames[::-1]) if spec.reverse else frames


def sound(spec: ClipSpec, duration_sec: float) -> tuple[np.ndarray, int] | None:
    """The clip's tone: mono samples float32 in -1..1 and their rate in Hz; None without a tone."""
    if spec.tone is None:
        return None
    time = np.arange(round(duration_sec * SOUND_RATE_HZ)) / SOUND_RATE_HZ
    return (0.3 * np.sin(2 * np.pi * TONES_HZ[spec.tone] * time)).astype(np.float32), SOUND_RATE_HZ


def draw_shape(
    frame: np.ndarray, shape: Shape, colour: str, *, center: tuple[float, float], radius: float
) -> None:
    """Draws a smooth-edged shape into a frame, in place.

    Args:
        frame: (H, W, 3) uint8, any size.
        shape: of SHAPES.
        colour: of COLOURS.
        center: x and y as shares of width and height.
        radius: as a share of the shorter side.
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
    frame[:] = np.round(frame * (1 - alpha) + np.array(COLOURS[colour], np.float32) * alpha)


def _background(name: str, size_px: int, rng: np.random.Generator) -> np.ndarray:
    """(S, S, 3) uint8."""
    grey = {"dark": 30, "light": 225, "stripes": 128, "noise": 128}[name]
    image = np.full((size_px, size_px, 3), grey, np.float32)
    if name == "stripes":
        image += 60 * np.sign(np.sin(np.arange(size_px) * 2 * np.pi * 8 / size_px))[None, :, None]
    if name == "noise":
        coarse = rng.uniform(-80, 80, size=(16, 16))  # in blocks, as fine noise would not survive coding
        cell = np.arange(size_px) * 16 // size_px
        image += coarse[cell][:, cell][..., None]
    return image.clip(0, 255).astype(np.uint8)


def _draw_word(frame: np.ndarray, word: str) -> None:
    """Writes a word at the lower edge, white on black, in place."""
    height, width = frame.shape[:2]
    bar = max(10, height // 7)
    image = Image.new("RGB", (width, bar))
    ImageDraw.Draw(image).text(
        (4, 0), word.upper(), fill="white", font=ImageFont.load_default(size=bar * 0.8)
    )
    frame[height - bar :] = np.asarray(image)
