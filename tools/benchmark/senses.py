"""Measures `videotag tag --find` and `videotag features`: what is found, speed and memory.

    python tools/benchmark/senses.py --parts=shots,ocr,speed,memory,decode_once,backends

Needs the films of videotag[demo] and the packages of videotag[all]; shots and backends also need those that
docs/senses.md and docs/features.md install without dependencies. Parts:
  shots        cuts, dissolves and flashes of generated videos, found within 2 frames
  ocr          characters correct on rendered Chinese and English text, plain and over film
  speed        seconds of media per second of work, of each input and each kind of finding
  memory       peak memory of all processes of `videotag features` on a file of an hour
  decode_once  time of features, shots and text in one go, against decoding plus each network alone
  backends     VGGish and BERT in OpenVINO against Paddle's layers
Prints a table per part, and writes it to OUT_DIR/PART.json.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from run_tool import run_tool

from videotag.cli import values
from videotag.errors import EXIT_OK, ConfigError
from videotag.system.atomic import write_text

Result: TypeAlias = dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    """Runs the parts and prints their tables; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="senses",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--out_dir", default="data/senses", type=Path, help="default: %(default)s")
    parser.add_argument(
        "--video", action="append", default=[], type=Path, help="a further file for speed; may be repeated"
    )
    parser.add_argument("--font", type=Path, help="font with Chinese letters (default: an installed one)")
    parser.add_argument(
        "--videos", type=values.natural, default=3, help="generated videos of each kind (default: 3)"
    )
    parser.add_argument("--seed", type=values.whole, default=0, help="of the generated videos (default: 0)")
    parser.add_argument(
        "--video_sec", type=values.natural, default=30, help="duration of the film for speed (default: 30)"
    )
    parser.add_argument(
        "--long_sec", type=values.natural, default=3600, help="duration of the long file (default: 3600)"
    )
    return run_tool(parser, _work, argv)


def _work(args: argparse.Namespace) -> int:
    names = [name.strip() for name in args.parts.split(",") if name.strip()]
    if not names or set(names) - set(PARTS):
        raise ConfigError(f"--parts={args.parts}: expected some of {', '.join(PARTS)}")
    for path in args.video:
        if not path.is_file():
            raise ConfigError(f"--video={path}: no such file")
    args.out_dir.mkdir(parents=True, exist_ok=True)
    for name in names:
        result, text = PARTS[name](args)
        write_text(args.out_dir / f"{name}.json", json.dumps(result, indent=2, ensure_ascii=False) + "\n")
        print(f"\n### {name}\n{text}", flush=True)
        if "goal" in result:
            print(f"\nGoal: {'met' if result['goal']['met'] else 'missed'} ({_goal(result['goal'])}).")
    return EXIT_OK


def _goal(goal: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in goal.items() if name != "met")


# Each part imports what it needs, so that the others run without its packages.


def _shots(args: argparse.Namespace) -> tuple[Result, str]:
    import sense_shots

    result = sense_shots.run(args.out_dir / "shots", num_videos=args.videos, seed=args.seed)
    return result, sense_shots.table(result)


def _ocr(args: argparse.Namespace) -> tuple[Result, str]:
    import sense_text

    result = sense_text.run(args.font)
    return result, sense_text.table(result)


def _speed(args: argparse.Namespace) -> tuple[Result, str]:
    import sense_runs

    result = sense_runs.speed([_film(args), *args.video], args.out_dir)
    return result, sense_runs.speed_table(result)


def _memory(args: argparse.Namespace) -> tuple[Result, str]:
    import sense_runs

    result = sense_runs.memory(args.out_dir, duration_sec=args.long_sec)
    return result, sense_runs.memory_table(result)


def _decode_once(args: argparse.Namespace) -> tuple[Result, str]:
    import sense_runs

    result = sense_runs.decode_once(_film(args), num_rounds=3)
    return result, sense_runs.decode_once_table(result)


def _backends(args: argparse.Namespace) -> tuple[Result, str]:
    import sense_backends

    result = sense_backends.run()
    return result, sense_backends.table(result)


def _film(args: argparse.Namespace) -> Path:
    """Big Buck Bunny, repeated."""
    import demo
    import sense_runs

    path: Path = args.out_dir / f"bigbuckbunny_{args.video_sec}s.mp4"
    if not path.exists():
        sense_runs.repeat_film(demo.films()["bigbuckbunny.mp4"], path, args.video_sec)
    return path


#: Name -> function that measures a part, and returns its result and its table.
PARTS: dict[str, Callable[[argparse.Namespace], tuple[Result, str]]] = {
    "shots": _shots,
    "ocr": _ocr,
    "speed": _speed,
    "memory": _memory,
    "decode_once": _decode_once,
    "backends": _backends,
}


if __name__ == "__main__":
    exit_with(main())
