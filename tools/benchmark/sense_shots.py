"""Part of the benchmark of the senses: shots of generated videos with known cuts, dissolves and flashes.

A video joins pieces of continuous film, and generated clips of colored shapes, at random points. Neighbors
never come from the same shot of a film, and generated neighbors have different backgrounds. A piece that is
longer than its shot runs back and forth, which makes no cut.
Shapes: T frames, H x W = SIZE_PX.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import demo
from sense_scores import NO_MATCHES, Matches, Span, match, num_touched

from videotag.inference.load_senses import load_senses
from videotag.media.synthetic import BACKGROUNDS, COLORS, ORDERS, SHAPES, ClipSpec, render
from videotag.media.video import FrameReader, probe
from videotag.media.writer import write_video
from videotag.senses.finding import Sense
from videotag.senses.search import Search

WIDTH_PX, HEIGHT_PX = 320, 180
FPS = 25
TOLERANCE = 2  # frames between a found boundary and the true one
PIECE_FRAMES = (20, 60)  # of a piece without its dissolves
NUM_PIECES = 20  # of a video
DISSOLVES = (4, 8, 12, 25, 50)  # frames
FLASH_FRAMES = (1, 3)
GENERATED_SHARE = 0.4  # of the pieces
#: Film -> first frames of its shots, found by eye; the film's own cuts are measured too.
SHOTS_OF_FILMS = {
    "bigbuckbunny.mp4": (0,),
    "bikes.mp4": (0, 30, 76, 137, 187, 242),
    "carphone_pristine.mp4": (0,),
}
MIN_SCENE_FRAMES = 25  # shorter shots of a film are not used


@dataclass(frozen=True)
class Scene:
    """A continuous shot of a film: frames (T, H, W, 3) uint8."""

    name: str
    frames: np.ndarray


@dataclass
class Video:
    """A generated video with its truth.

    Attributes:
        frames: (T, H, W, 3) uint8.
        joins: Changes of shots.
        flashes: Flashes, which are no changes of shots.
        pieces: Name and first frame of each piece.
    """

    frames: np.ndarray
    joins: list[Span] = field(default_factory=list)
    flashes: list[Span] = field(default_factory=list)
    pieces: list[tuple[str, int]] = field(default_factory=list)


def run(out_dir: Path, *, num_videos: int, seed: int) -> dict[str, Any]:
    """Measures shots; returns the rows of the table and every error.

    Args:
        out_dir: Folder of the generated videos.
        num_videos: Number of videos with cuts, with each length of dissolves, and with flashes.
        seed: Seed of the videos.
    """
    (sense,) = load_senses(["shots"])
    scenes = film_scenes()
    rng = np.random.default_rng(seed)
    out_dir.mkdir(parents=True, exist_ok=True)
    kinds = [("cuts", 0), *((f"dissolves of {count} frames", count) for count in DISSOLVES), ("flashes", 0)]
    total: dict[str, Matches] = {}
    touched = flashes = 0
    errors, seconds, num_frames = [], 0.0, 0
    for kind, dissolve in kinds:
        total[kind] = NO_MATCHES
        for number in range(num_videos):
            video = make_video(scenes, rng, dissolve=dissolve, flashes=kind == "flashes")
            path = out_dir / f"{kind.replace(' ', '_')}_{number}.mp4"
            write_video(path, video.frames, fps=FPS)
            started = time.perf_counter()
            found = boundaries(sense, path)
            seconds, num_frames = seconds + time.perf_counter() - started, num_frames + len(video.frames)
            matches = match(found, video.joins, tolerance=TOLERANCE)
            touched += num_touched(found, video.flashes, tolerance=TOLERANCE)
            flashes += len(video.flashes)
            total[kind] += matches
            errors += _errors(path.name, video, matches)
    own = match(
        boundaries(sense, demo.films()["bikes.mp4"]),
        [Span(at, at, "film") for at in SHOTS_OF_FILMS["bikes.mp4"][1:]],
        tolerance=TOLERANCE,
    )
    rows = [_row(kind, total[kind]) for kind, _ in kinds if kind != "flashes"]
    all_cuts = total["cuts"]
    for what in sorted({span.what for span in all_cuts.hits + all_cuts.misses}):
        rows.insert(1, _row(f"cuts, {what}", _only(all_cuts, what), has_false=False))
    dissolves = sum((total[kind] for kind, count in kinds if count), NO_MATCHES)
    rows += [_row("dissolves, all", dissolves), _row("cuts of bikes.mp4 itself", own)]
    rows.append(_row("cuts beside flashes", total["flashes"]))
    return {
        "rows": rows,
        "flashes": flashes,
        "flashes_taken_for_cuts": touched,
        "frames_per_sec": num_frames / seconds,
        "errors": errors,
        "goal": {"f1 of cuts": 0.95, "met": bool(all_cuts.f1 >= 0.95)},
    }


def table(result: dict[str, Any]) -> str:
    """The Markdown table of `run`."""
    lines = ["| change of shots | number | precision | recall | F1 |", "|---|---:|---:|---:|---:|"]
    for row in result["rows"]:
        numbers = [_number(row[key]) for key in ("precision", "recall", "f1")]
        lines.append(f"| {row['name']} | {row['number']} | {' | '.join(numbers)} |")
    lines.append(f"\nFlashes taken for cuts: {result['flashes_taken_for_cuts']} of {result['flashes']}. ")
    lines[-1] += f"Decoding and network: {result['frames_per_sec']:.0f} frames per second."
    return "\n".join(lines)


def boundaries(sense: Sense, path: Path) -> list[int]:
    """Numbers of the first frames of the shots that are found in a video, without the first shot."""
    search = Search([sense])
    (other,) = search.others
    fps = probe(path).fps
    reader = FrameReader(path, **asdict(other.view))
    for frame in reader:
        other.take(frame)
    shots = search.finish(reader.info.duration_sec)["shots"] or []
    return [round(shot.start_sec * fps) for shot in shots[1:]]


# ---------------------------------------------------------------- material


def film_scenes() -> list[Scene]:
    """The continuous shots of the demo's films."""
    scenes = []
    for name, path in demo.films().items():
        frames, _ = demo.read_film(path)
        starts = [*SHOTS_OF_FILMS[name], len(frames)]
        for start, end in itertools.pairwise(starts):
            if end - start >= MIN_SCENE_FRAMES:
                resized = np.stack([_resized(frame) for frame in frames[start:end]])
                scenes.append(Scene(f"{name} from {start}", resized))
    return scenes


def make_video(
    scenes: Sequence[Scene], rng: np.random.Generator, *, dissolve: int = 0, flashes: bool = False
) -> Video:
    """A video of NUM_PIECES pieces.

    Args:
        scenes: Shots of films.
        rng: Source of randomness.
        dissolve: Number of frames that are blended at each join; 0 for hard cuts.
        flashes: Whether each piece has a flash in its middle.
    """
    parts: list[np.ndarray] = []
    video = Video(np.empty(0, np.uint8))
    position, last = 0, ""  # of the next frame; the source of the last piece
    for number in range(NUM_PIECES):
        length = int(rng.integers(*PIECE_FRAMES, endpoint=True))
        before, after = (dissolve if number else 0), (dissolve if number < NUM_PIECES - 1 else 0)
        name, piece = _piece(scenes, rng, length + before + after, other_than=last)
        if number:
            what = " to ".join(sorted("generated" if n in BACKGROUNDS else "film" for n in (last, name)))
            video.joins.append(Span(position, position + before, what))
        if before:
            weights = (np.arange(1, before + 1) / (before + 1))[:, None, None, None]
            blended = (1 - weights) * parts.pop() + weights * piece[:before]
            parts.append(np.round(blended).astype(np.uint8))
        video.pieces.append((name, position))
        position += before
        core = piece[before : len(piece) - after]
        if flashes:
            count = int(rng.integers(*FLASH_FRAMES, endpoint=True))
            start = length // 2
            light = rng.uniform(0.7, 1.0)
            core[start : start + count] = (1 - light) * core[start : start + count] + light * 255
            video.flashes.append(Span(position + start, position + start + count))
        parts.append(core)
        position += length
        if after:
            parts.append(piece[len(piece) - after :])
        last = name
    video.frames = np.concatenate(parts)
    return video


def _piece(
    scenes: Sequence[Scene], rng: np.random.Generator, length: int, *, other_than: str
) -> tuple[str, np.ndarray]:
    """The name of a source and frames (length, H, W, 3) of it, from a random point on."""
    if rng.random() < GENERATED_SHARE:
        background = str(rng.choice([name for name in BACKGROUNDS if name != other_than]))
        spec = ClipSpec(
            shape=SHAPES[rng.integers(len(SHAPES))],
            color=str(rng.choice(list(COLORS))),
            background=background,
            change=str(rng.choice(list(ORDERS))),
            reverse=bool(rng.integers(2)),
            seed=int(rng.integers(2**31)),
        )
        top = (WIDTH_PX - HEIGHT_PX) // 2
        return background, render(spec, num_frames=length, size_px=WIDTH_PX)[:, top : top + HEIGHT_PX].copy()
    others = [scene for scene in scenes if scene.name != other_than]
    scene = others[rng.integers(len(others))]
    turn = 2 * len(scene.frames) - 2
    index = (int(rng.integers(len(scene.frames))) + np.arange(length)) % turn
    return scene.name, scene.frames[np.minimum(index, turn - index)]


def _resized(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC))


# ---------------------------------------------------------------- results


def _only(matches: Matches, what: str) -> Matches:
    hits, misses = (tuple(s for s in spans if s.what == what) for spans in (matches.hits, matches.misses))
    return Matches(hits, misses, ())


def _row(name: str, matches: Matches, *, has_false: bool = True) -> dict[str, Any]:
    """A row of the table; has_false: whether false boundaries belong to the row, as precision needs."""
    return {
        "name": name,
        "number": len(matches.hits) + len(matches.misses),
        "recall": matches.recall,
        "precision": matches.precision if has_false else None,
        "f1": matches.f1 if has_false else None,
    }


def _errors(name: str, video: Video, matches: Matches) -> list[dict[str, Any]]:
    """Misses and false boundaries, with the pieces around them."""
    errors = []
    for kind, frames in (("missed", [s.first for s in matches.misses]), ("false", list(matches.false))):
        for frame in frames:
            index = max(i for i, (_, start) in enumerate(video.pieces) if start <= frame)
            around = [video.pieces[i] for i in (index - 1, index) if i >= 0]
            errors.append({"video": name, "error": kind, "frame": frame, "pieces": around})
    return errors


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
