"""Tables that several commands print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from videotag.safe_text import escaped


def tags_table(prediction: dict[str, Any]) -> str:
    """The tags of a video, one line per tag with probability, name and class id."""
    lines = [escaped(prediction["video_id"])]
    lines += [
        f"  {tag['probability']:.4f}  {escaped(tag['class_name'])}  ({tag['class_id']})"
        for tag in prediction["tags"]
    ]
    return "\n".join(lines if prediction["tags"] else [*lines, "  no tag reaches the threshold"])


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """The metrics as a table of name and value."""
    return "\n".join(
        f"{name:<20}{value:.4f}" if isinstance(value, float) else f"{name:<20}{value}"
        for name, value in metrics.items()
    )
