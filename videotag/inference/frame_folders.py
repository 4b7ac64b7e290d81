"""A list of videos -> a folder of JPEGs per video, img_00001.jpg onwards (VideoTag's `format: frames`).

Only one frame of a video is in memory at a time. A folder is kept while its INFO_FILE matches the video.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from videotag.errors import MediaError, OutputError, one_error
from videotag.inference.input_files import input_identity, is_same_input, without_path
from videotag.inference.jobs import Item, Job, Outcome
from videotag.media.decode_pool import DecodePool
from videotag.media.frame_folder import check_replaceable, read_info, write_frame_folder
from videotag.system.cores import num_cores

_RESULTS_PER_THREAD = 16  # may queue behind a long video; they are small


@dataclass(frozen=True)
class JpegOptions:
    """Which frames are written, and how.

    Attributes:
        num_frames: Number of frames, spread evenly over the video and repeated if it is shorter; None takes
            every frame.
        fps: Frame rate in frames per second, instead of num_frames; a slower video keeps its own rate.
        short_size: Short side of a frame after scaling, in pixels; 0 keeps the size.
        quality: Quality of the JPEGs, from 1 to 100.
    """

    num_frames: int | None = None
    fps: float | None = None
    short_size: int = 256
    quality: int = 90


@dataclass(frozen=True)
class FramesJob(Job[Outcome]):
    """Writes one folder of JPEGs per video, and a list with lines `folder num_frames label label ...`.

    Args:
        options: Which frames are written, and how.
        videos_at_once: Number of videos processed in parallel.
        stall_limit_sec: Seconds to wait for a frame before the video fails; 0 waits forever.
    """

    options: JpegOptions
    videos_at_once: int = 1
    stall_limit_sec: float = 300.0
    what, suffix = "frames", ""

    def concurrency(self) -> tuple[int, int]:
        """See Job."""
        return self.videos_at_once, _RESULTS_PER_THREAD * self.videos_at_once

    def input_of(self, output: Path) -> Mapping[str, Any]:
        """See OutputKind."""
        made_from = read_info(output).get("input")
        return made_from if isinstance(made_from, dict) else {}

    def is_listed(self, path: Path) -> bool:
        """See OutputKind."""
        return not path.exists() or bool(read_info(path))

    def check(self, items: Sequence[Item], save_dir: Path) -> None:
        """Refuses to replace folders with other content, and to write inside folders of frames.

        Args:
            items: Entries with their output folders.
            save_dir: Folder that holds the output folders.

        Raises:
            OutputError: Some outputs are refused; the message has one line per output.
        """
        problems = []
        is_of_frames: dict[Path, bool] = {save_dir: False}
        for entry, folder in items:
            for parent in folder.parents[: len(folder.parts) - len(save_dir.parts) - 1]:
                if parent not in is_of_frames:
                    is_of_frames[parent] = bool(read_info(parent))
                if is_of_frames[parent]:
                    problems.append(
                        f"{entry.path}: would write {folder} inside {parent}, a folder of frames; choose "
                        "another --save_dir"
                    )
            try:
                if folder.is_dir() and not self._kept_info(entry.path, folder):
                    check_replaceable(folder)
            except MediaError:
                pass  # `load` hits it again and records the failure
            except OutputError as error:
                problems.append(str(error))
        if problems:
            raise one_error(OutputError, problems)

    def load(self, item: Item, pool: DecodePool, stop: threading.Event) -> Outcome:
        """See Job; keeps or writes the folder of a video."""
        (entry, folder), options = item, self.options
        if info := self._kept_info(entry.path, folder):
            return Outcome(entry.path, "kept", warning=info["warning"], counts=(info["num_frames"],))
        stamp = {"input": input_identity(entry.path, folder), "options": asdict(options)}
        reader = pool.reader(
            entry.path,
            stall_limit_sec=self.stall_limit_sec,
            stop=stop,
            num_frames=options.num_frames,
            fps=options.fps,
            short_side_px=options.short_size or None,
            num_threads=max(1, num_cores() // self.videos_at_once),
        )
        try:
            count = write_frame_folder(folder, reader, path=entry.path, stamp=stamp, quality=options.quality)
        except OutputError as error:
            raise OutputError(f"{error}, then run again; finished videos are kept") from error
        return Outcome(entry.path, "written", warning=reader.warning, counts=(count,))

    def _kept_info(self, path: str, folder: Path) -> dict[str, Any]:
        """The INFO_FILE of an up-to-date folder of the video; empty if the folder is not up to date.

        Raises:
            MediaError: The video cannot be read.
        """
        found = read_info(folder)
        made_from = found.get("input")
        if not isinstance(made_from, dict) or found.get("options") != asdict(self.options):
            return {}
        if without_path(made_from) != input_identity(path) or not is_same_input(made_from, path, folder):
            return {}
        return found
