"""Parts of the benchmark of the senses: speed, peak memory, and the cost of decoding once."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, get_args

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import demo
from process_family import peak_family_mb
from sense_text import TEXTS

from videotag.errors import VideotagError
from videotag.formats.filelist import ListEntry
from videotag.inference.feature_networks import FeatureNetworks
from videotag.inference.feature_options import Input, read_options
from videotag.inference.features import RECORDS, FeaturesJob
from videotag.inference.frame_tagging import StagesTagger
from videotag.inference.jobs import Item
from videotag.inference.load_senses import load_senses
from videotag.inference.tagger import Tagger
from videotag.inputs.frames import Frames, OtherView, read_frames
from videotag.media.decode_pool import DecodePool
from videotag.media.video import SampledFrame, probe
from videotag.senses.finding import KINDS
from videotag.senses.search import Search
from videotag.system.atomic import write_text

#: Without the embedding, which needs a tagger of the user and takes a small share of the time of the frames.
INPUTS: tuple[Input, ...] = tuple(name for name in get_args(Input) if name != "embedding")
NUM_PICTURES, NUM_TEXTS = 64, 200  # of the posts whose pictures and texts are timed
SHORT_SEC = 6  # of the film that warms the networks up
MEMORY_GOAL_MB = 1500
MEMORY_INPUTS = "video,image,audio,text,ocr"
RATIO_GOAL = 1.15
_CHUNK_SEC = 60  # of the long film, which repeats it
_HELD_SEC = 15  # for which a picture with text stays
_RATE_HZ = 44_100


# ---------------------------------------------------------------- speed


def speed(videos: Sequence[Path], out_dir: Path) -> dict[str, Any]:
    """Seconds of media per second of work, of each input and each kind of finding; loading is not counted.

    Args:
        videos: Media files with sound.
        out_dir: Folder of files made here.
    """
    short = out_dir / "short.mp4"
    repeat_film(demo.films()["bigbuckbunny.mp4"], short, SHORT_SEC)
    rows = []
    for name in INPUTS:
        run_posts = _posts_runner(name, short)
        if name in ("image", "text"):
            posts = _posts(name, out_dir)
            rate = len(posts) / run_posts(posts)
            rows.append({"what": f"features, {name}", "unit": "per second", "posts": rate})
            continue
        row: dict[str, Any] = {"what": f"features, {name}", "unit": "times real time"}
        for video in videos:
            row[video.name] = probe(video).duration_sec / run_posts([ListEntry(str(video))])
        rows.append(row)
    for find in ([], *([kind] for kind in KINDS)):
        row = {"what": f"tag, {find[0] if find else 'no --find'}", "unit": "times real time"}
        with Tagger.load(find=find) as tagger:
            tagger.tag(short)
            for video in videos:
                started = time.perf_counter()
                tagger.tag(video)
                row[video.name] = probe(video).duration_sec / (time.perf_counter() - started)
        rows.append(row)
    return {"videos": {video.name: asdict(probe(video)) for video in videos}, "rows": rows}


def speed_table(result: dict[str, Any]) -> str:
    """The Markdown table of `speed`."""
    names = list(result["videos"])
    lines = [f"| what | {' | '.join(names)} | pictures or texts per second |"]
    lines.append(f"|---|{'---:|' * (len(names) + 1)}")
    for row in result["rows"]:
        cells = [f"{row[key]:.1f}" if key in row else "" for key in (*names, "posts")]
        lines.append(f"| {row['what']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\nSeconds of media per second of work. Loading is not counted."


def _posts_runner(name: Input, short: Path) -> Callable[[Sequence[ListEntry]], float]:
    """Loads the networks of an input, and warms them up; returns what times a list of posts, in seconds."""
    networks = FeatureNetworks([name], read_options(None))
    stop = threading.Event()

    def seconds(entries: Sequence[ListEntry]) -> float:
        # A folder of its own for each list: nothing is kept, and each list gets its own precision.
        with tempfile.TemporaryDirectory(dir=short.parent) as folder, DecodePool() as pool:
            job = FeaturesJob(networks, Path(folder))
            items: list[Item] = [
                (entry, job.save_dir / RECORDS / f"{index}.json") for index, entry in enumerate(entries)
            ]
            job.prepare(items, job.save_dir)
            pool.release(pool.acquire())  # starts the child process
            started = time.perf_counter()
            outcomes = list(job.finish((item, job.load(item, pool, stop)) for item in items))
            took = time.perf_counter() - started
        failed = [one.error for one in outcomes if one.status == "failed"]
        if failed:
            raise VideotagError(failed[0])
        return took

    fields = {"text": "warm"} if name == "text" else {"cover": str(_picture(short.parent, 0))}
    seconds([ListEntry("warm", fields=fields) if name in ("image", "text") else ListEntry(str(short))])
    return seconds


def _posts(name: Input, out_dir: Path) -> list[ListEntry]:
    """Posts of one picture each, or of one text each."""
    if name == "image":
        return [ListEntry(f"p{n}", fields={"cover": str(_picture(out_dir, n))}) for n in range(NUM_PICTURES)]
    texts = [text for one in TEXTS.values() for text in one]
    return [ListEntry(f"t{n}", fields={"text": texts[n % len(texts)]}) for n in range(NUM_TEXTS)]


def _picture(out_dir: Path, number: int) -> Path:
    """A JPEG of a film frame with its number on it."""
    path = out_dir / f"picture{number}.jpg"
    if not path.exists():
        (frame, *_) = still_frames(1, first=number)
        Image.fromarray(frame).save(path, quality=90)
    return path


# ---------------------------------------------------------------- memory


def memory(out_dir: Path, *, duration_sec: float) -> dict[str, Any]:
    """Peak memory of the processes of `videotag features` on a post with a long film, and its time.

    Args:
        out_dir: Folder of files made here.
        duration_sec: Duration of the file in seconds.
    """
    path = out_dir / "long.mp4"
    write_long_film(path, duration_sec)
    post = {"id": "long", "video": str(path), "cover": str(_picture(out_dir, 0)), "text": TEXTS["English"][0]}
    posts = out_dir / "long.jsonl"
    write_text(posts, json.dumps(post) + "\n")
    command = ["-m", "videotag", "features", str(posts), f"--inputs={MEMORY_INPUTS}", "--overwrite"]
    started = time.perf_counter()
    log = out_dir / "memory.log"
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [sys.executable, *command, f"--save_dir={out_dir / 'long_features'}"], stdout=out, stderr=out
        )
        try:
            peak_mb = peak_family_mb(process.pid, process.wait)
        finally:
            process.terminate()  # if this process is interrupted; an ended one ignores it
    if process.returncode:
        raise VideotagError(f"videotag features failed; see {log}")
    info = probe(path)
    return {
        "duration_sec": info.duration_sec,
        "size_px": [info.width_px, info.height_px],
        "fps": info.fps,
        "seconds": time.perf_counter() - started,
        "peak_mb": peak_mb,
        "goal": {"peak_mb": MEMORY_GOAL_MB, "met": peak_mb <= MEMORY_GOAL_MB},
    }


def memory_table(result: dict[str, Any]) -> str:
    """The Markdown table of `memory`."""
    width, height = result["size_px"]
    film = f"{result['duration_sec'] / 60:.0f} min of {width}x{height} at {result['fps']:.0f} fps"
    return (
        "| file | inputs | seconds | peak memory, MB |\n|---|---|---:|---:|\n"
        f"| {film} | {MEMORY_INPUTS} | {result['seconds']:.0f} | {result['peak_mb']:,.0f} |"
    )


def write_long_film(path: Path, duration_sec: float) -> None:
    """Writes a film of stills with text, 1280x720 at 25 fps, with sound; it repeats every minute."""
    chunk = path.with_name("chunk.mp4")
    count = _CHUNK_SEC // _HELD_SEC
    rng = np.random.default_rng(0)
    with av.open(str(chunk), "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "23"})
        audio: Any = container.add_stream("aac", rate=_RATE_HZ, layout="stereo")
        video.width, video.height, video.pix_fmt = 1280, 720, "yuv420p"
        for image in still_frames(count):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            for _ in range(25 * _HELD_SEC):
                frame.pts = None
                container.mux(video.encode(frame))
        container.mux(video.encode(None))
        seconds = np.arange(_CHUNK_SEC * _RATE_HZ) / _RATE_HZ
        wave = 0.2 * np.sin(2 * np.pi * (300 + 200 * np.sin(seconds)) * seconds)
        samples = (wave + 0.05 * rng.standard_normal(wave.shape)).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(np.stack([samples, samples]), format="fltp", layout="stereo")
        sound.sample_rate = _RATE_HZ
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    repeat_film(chunk, path, duration_sec)


def still_frames(count: int, *, first: int = 0) -> Iterator[np.ndarray]:
    """Yields frames (720, 1280, 3) of a film with lines of text drawn over them."""
    frames, _ = demo.read_film(demo.films()["bigbuckbunny.mp4"])
    font = ImageFont.load_default(size=40)
    for number in range(first, first + count):
        image = Image.fromarray(frames[number * 29 % len(frames)]).resize((1280, 720))
        pen = ImageDraw.Draw(image)
        for row in range(3):
            text = TEXTS["English"][(3 * number + row) % len(TEXTS["English"])]
            pen.text((60, 500 + 60 * row), text, "white", font, stroke_width=3, stroke_fill="black")
        yield np.array(image)


def repeat_film(source: Path, target: Path, duration_sec: float) -> None:
    """Writes a film that repeats another one until it lasts at least duration_sec; nothing is encoded."""
    with av.open(str(source)) as first:
        length = max(Fraction(s.duration) * Fraction(s.time_base) for s in first.streams if s.duration)
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(target), "w") as out:
        streams: dict[int, Any] = {}
        for number in range(-(-Fraction(duration_sec) // length)):
            with av.open(str(source)) as container:
                wanted = [s for s in container.streams if s.type in ("video", "audio")]
                for stream in wanted:
                    if stream.index not in streams:
                        streams[stream.index] = out.add_stream_from_template(stream)
                for packet in container.demux(wanted):
                    if packet.dts is None:
                        continue
                    shift = round(number * length / Fraction(packet.time_base))
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream.index]
                    out.mux(packet)


# ---------------------------------------------------------------- decoding once


def decode_once(video: Path, *, num_rounds: int) -> dict[str, Any]:
    """Seconds of decoding alone, of each network alone on decoded frames, and of all in one go.

    Decoding alone delivers the frames of all views, as the whole does, but runs no network. All take turns;
    the medians of the rounds count.

    Args:
        video: Media file.
        num_rounds: Number of rounds.
    """
    senses = load_senses(["shots", "text"])
    tagger = Tagger.load()
    assert isinstance(tagger._tagger, StagesTagger)
    extractor = tagger._tagger.extractor
    entry, split = ListEntry(str(video)), extractor.config.infer
    kept: list[list[SampledFrame]] = [[] for _ in senses]

    with tagger, DecodePool() as pool:

        def decode(*, with_views: bool) -> Frames:
            for frames in kept:
                frames.clear()
            others = [
                OtherView(sense.view, frames.append)
                for sense, frames in zip(senses, kept, strict=True)
                if sense.view is not None
            ]
            return read_frames(entry, split, pool=pool, others=others if with_views else ())

        def find(index: int) -> None:
            finder = senses[index].finder()
            for frame in kept[index]:
                finder.add_frame(frame)
            finder.finish(duration_sec)

        def together() -> None:
            search = Search(senses)
            frames = read_frames(entry, split, pool=pool, others=search.others)
            search.finish(frames.duration_sec)
            extractor.features(frames)

        decoded = decode(with_views=True)
        duration_sec = decoded.duration_sec
        works: dict[str, Callable[[], object]] = {
            "decoding for the features": lambda: decode(with_views=False),
            "decoding for all": lambda: decode(with_views=True),
            "features": lambda: extractor.features(decoded),
            "shots": partial(find, 0),
            "text": partial(find, 1),
            "all in one go": together,
        }
        seconds = _timed_in_turns(works, num_rounds)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ratio = _together_to_parts(medians)
    ratios = [
        _together_to_parts({name: times[number] for name, times in seconds.items()})
        for number in range(num_rounds)
    ]
    return {
        "video": video.name,
        "duration_sec": duration_sec,
        "seconds": medians,
        "rounds": seconds,
        "ratio": ratio,
        "ratios_of_rounds": ratios,
        "goal": {"ratio": RATIO_GOAL, "met": ratio < RATIO_GOAL},
    }


def _timed_in_turns(works: Mapping[str, Callable[[], object]], num_rounds: int) -> dict[str, list[float]]:
    """Seconds of each piece of work in each round; a first round, which is not timed, warms everything up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(num_rounds + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def decode_once_table(result: dict[str, Any]) -> str:
    """The Markdown table of `decode_once`."""
    lines = [f"| {result['video']}, {result['duration_sec']:.0f} s | seconds |", "|---|---:|"]
    lines += [f"| {name} | {seconds:.2f} |" for name, seconds in result["seconds"].items()]
    lines.append(f"| all in one go, divided by the sum of its parts | {result['ratio']:.2f} |")
    rounds = ", ".join(f"{ratio:.2f}" for ratio in result["ratios_of_rounds"])
    return "\n".join(lines) + f"\n\nThe ratio in each round: {rounds}."


def _together_to_parts(seconds: Mapping[str, float]) -> float:
    return seconds["all in one go"] / sum(
        seconds[name] for name in ("decoding for all", "features", "shots", "text")
    )
