"""HTML report of tags: for each video, thumbnails over time, the attention curve below them, and the tags.

One self-contained file: pictures are embedded, nothing is fetched, no script runs.
"""

from __future__ import annotations

import base64
import io
import numbers
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, Undefined
from PIL import Image

from videotag.errors import MediaError
from videotag.media.video import FrameReader
from videotag.safe_text import escaped, safe_repr
from videotag.senses.finding import JSON_KEYS
from videotag.system.atomic import write_text

#: Matches the start of every page that this program writes, by the generator in its head.
PAGE_HEAD = re.compile(r'<!doctype html>[^\0]{0,500}?<meta name="generator" content="videotag">')
NUM_THUMBNAILS = 8
THUMBNAIL_PX = 96  # short side
CURVE_HEIGHT = 100  # SVG units; the picture is stretched to fit


def write_report(
    path: str | Path,
    results: Sequence[Mapping[str, Any]],
    *,
    title: str = "Video tags",
    note: str = "",
    metrics: Mapping[str, Any] | None = None,
    truth: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Writes the report.

    Args:
        path: The HTML file to write.
        results: Dicts from TagResult.to_dict; segments and attention may be missing. Thumbnails are read from
            the path in video_id, and left out if that fails.
        title: Title of the page.
        note: Remark at the top of the page.
        metrics: Metric name -> number, shown as a table.
        truth: Map from video_id to the names of its true tags, which the page highlights.

    Raises:
        OutputError: The file cannot be written.
    """
    page = template("tags_report.html.j2").render(
        title=title,
        note=note,
        metrics=metrics or {},
        videos=[_video(result, (truth or {}).get(result["video_id"])) for result in results],
    )
    write_text(path, page)


def template(name: str) -> Template:
    """A template of this folder; values are escaped, and undefined variables are errors.

    Texts are shortened as in messages, except pictures and curves, which the templates mark as safe.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
    )
    return environment.get_template(name)


def _shown(value: Any) -> Any:
    """The value in the form that a page shows."""
    if isinstance(value, numbers.Number | Undefined) or hasattr(value, "__html__"):
        return value
    return escaped(value) if isinstance(value, str) else safe_repr(value)


def thumbnails(path: str) -> list[str]:
    """NUM_THUMBNAILS frames, evenly spaced over a video, as JPEG data URLs; empty if it cannot be read."""
    try:
        frames = [
            f for f in FrameReader(path, NUM_THUMBNAILS, short_side_px=THUMBNAIL_PX) for _ in range(f.repeats)
        ]
    except MediaError:
        return []
    urls = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame.image).save(buffer, "JPEG", quality=80)
        urls.append("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"))
    return urls


def curve_points(weights: Sequence[float]) -> str:
    """Points of an SVG polyline through T weights: x in 0..T, y = 0 at the largest weight; "" for none."""
    top = max(weights, default=0.0) or 1.0
    return " ".join(f"{i + 0.5:g},{CURVE_HEIGHT * (1 - w / top):.1f}" for i, w in enumerate(weights))


def _video(result: Mapping[str, Any], truth: Sequence[str] | None) -> dict[str, Any]:
    """The template's variables for one video."""
    predicted = {tag["class_name"] for tag in result["tags"]}
    curves = [
        {"name": name, "points": curve_points(weights), "steps": len(weights), "top": max(weights)}
        for name, weights in result.get("attention", {}).items()
        if len(weights)
    ]
    return {
        "id": result["video_id"],
        "duration_sec": result.get("duration_sec"),
        "warning": result.get("warning"),
        "not_sure": result.get("not_sure", False),
        "tags": [
            {**tag, "true": None if truth is None else tag["class_name"] in truth} for tag in result["tags"]
        ],
        "missed": [name for name in truth or () if name not in predicted],
        "thumbnails": thumbnails(result["video_id"]),
        "curves": curves,
        "segments": result.get("segments", []),
        "tracks": _tracks(result),
    }


def _tracks(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The findings of a video by kind, placed in percent of its duration, as the template takes them."""
    duration_sec = result.get("duration_sec") or 0.0
    tracks = []
    for key in JSON_KEYS.values():
        if key not in result or duration_sec <= 0:
            continue
        found = result[key] or []
        classes = sorted({one["class_name"] for one in found if one.get("class_name")})
        for name in classes or [""]:  # sounds of several classes overlap
            of_class = [one for one in found if not name or one["class_name"] == name]
            parts = [_part(one, number, duration_sec) for number, one in enumerate(of_class, start=1)]
            tracks.append({"name": name or key, "is_missing": result[key] is None, "parts": parts})
    return tracks


def _part(found: Mapping[str, Any], number: int, duration_sec: float) -> dict[str, Any]:
    start, end = (min(found[time], duration_sec) for time in ("start_sec", "end_sec"))
    return {
        "left": 100 * start / duration_sec,
        "width": 100 * (end - start) / duration_sec,
        "times": f"{found['start_sec']:.2f} - {found['end_sec']:.2f}",
        "text": found.get("text") or found.get("class_name") or str(number),
    }
