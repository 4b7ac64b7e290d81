"""Tables that several commands print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from videotag.safe_text import escaped


def best_guess(result: Mapping[str, Any]) -> str | None:
    """What to show in place of the tags of a video or segment that is marked as not sure; else None."""
    if not (result.get("not_sure") and result["tags"]):
        return None
    best = result["tags"][0]
    return f"not sure (best guess: {escaped(best['class_name'])} {best['probability']:.2f})"


def tags_table(prediction: dict[str, Any], *, guesses: bool = True) -> str:
    """The tags of a video, one line per tag with probability, name and class id.

    Args:
        prediction: Dict from TagResult.to_dict or a prediction of `videotag predict`.
        guesses: Whether to show all tags of a video that is marked as not sure, instead of one line.
    """
    if not guesses and (guess := best_guess(prediction)):
        return f"{escaped(prediction['video_id'])}\n  {guess}"
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
