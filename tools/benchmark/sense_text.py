"""Part of the benchmark of the senses: rendered lines of Chinese and English, read by RapidOCR.

Lines are drawn in bands of 1280x720 pictures, on plain backgrounds and over frames of film, and only what is
read inside a band counts as its line. Lines that `videotag` would drop as improbable are dropped here too.
Shapes: H x W = 720 x 1280.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import demo
from sense_scores import share_correct

from videotag.errors import ConfigError
from videotag.senses.rapid_ocr import RapidOcr
from videotag.senses.text import Line, TextReader, is_readable

WIDTH_PX, HEIGHT_PX = 1280, 720
NUM_BANDS = 8  # lines of a picture
SIZES_PX = (16, 24, 32, 48)
FONTS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/arphic/uming.ttc",
)
#: Name -> color of the letters, color of the plain background.
PLAIN: dict[str, tuple[str, str]] = {
    "black on white": ("black", "white"),
    "white on black": ("white", "black"),
    "yellow on blue": ("#ffe000", "#103080"),
}
OVER_FILM = {"white with a black edge, on film": "black", "white, on film": None}
TEXTS: dict[str, tuple[str, ...]] = {
    "Chinese": (
        "今天的天气非常好我们一起去公园散步",
        "中国队以三比一战胜了去年的冠军",
        "请在右下角点击关注并转发给朋友",
        "新鲜蔬菜限时特价买二送一",
        "下一站是人民广场请从左侧车门下车",
        "本节目由多家企业联合赞助播出",
        "先把土豆切成细丝再用清水浸泡十分钟",
        "第三届国际机器人大赛昨日开幕",
        "北京时间二零二六年七月四日星期六",
        "警方提醒市民注意防范电信诈骗",
        "他用一生的时间研究这片沙漠的植物",
        "手机充电时不要玩游戏以免过热",
        "这只小猫每天早上都会叫我起床",
        "股市收盘上涨百分之二点五",
        "欢迎来到直播间新来的朋友点个赞",
        "故宫博物院将于下周一闭馆维修",
    ),
    "English": (
        "The quick brown fox jumps over the lazy dog",
        "Breaking news: heavy rain expected tonight",
        "Subscribe and turn on notifications",
        "Final score: Tigers 3, Lions 1",
        "Add two cups of flour and mix gently",
        "Next stop: Central Station, platform 12",
        "All prices are subject to change",
        "Chapter Four: The Long Way Home",
        "Presented by the Museum of Natural History",
        "Why do cats always land on their feet?",
        "How to replace a bicycle tire in 5 minutes",
        "Interview with the director, recorded in 2019",
        "Warning: do not try this at home",
        "Buy one, get one free until Sunday",
        "Music composed by John Williams",
        "Population of the world's largest cities",
    ),
}
GOAL = 0.98


@dataclass(frozen=True)
class Picture:
    """Lines drawn in a picture (H, W, 3) uint8, one per band from the top."""

    image: np.ndarray
    lines: tuple[str, ...]


def run(font: Path | None) -> dict[str, Any]:
    """Measures the share of correct characters by language, background and size.

    Args:
        font: Font with Chinese letters; None looks for an installed one.

    Raises:
        ConfigError: There is no such font, or RapidOCR is not installed.
    """
    path, reader = find_font(font), RapidOcr()
    films = film_frames()
    rows, wrong = [], []
    for language, texts in TEXTS.items():
        for background in (*PLAIN, *OVER_FILM):
            row: dict[str, Any] = {"language": language, "background": background}
            pairs_of_all: list[tuple[str, str]] = []
            seconds = []  # of reading each picture
            for size_px in SIZES_PX:
                pairs = []
                for number in range(0, len(texts), NUM_BANDS):
                    film = films[number // NUM_BANDS % len(films)]
                    picture = draw(texts[number : number + NUM_BANDS], background, size_px, path, film)
                    started = time.perf_counter()
                    pairs += read(reader, picture)
                    seconds.append(time.perf_counter() - started)
                row[f"{size_px} px"] = share_correct(pairs)
                pairs_of_all += pairs
                wrong += [[language, background, size_px, *pair] for pair in pairs if pair[0] != pair[1]]
            row["all sizes"] = share_correct(pairs_of_all)
            row["without blanks"] = share_correct([(_joined(a), _joined(b)) for a, b in pairs_of_all])
            row["sec_per_picture"] = sum(seconds) / len(seconds)
            rows.append(row)
    plain = [row["all sizes"] for row in rows if row["background"] in PLAIN]
    return {
        "font": str(path),
        "rows": rows,
        "wrong": wrong,
        "goal": {"plain": GOAL, "met": min(plain) >= GOAL},
    }


def table(result: dict[str, Any]) -> str:
    """The Markdown table of `run`."""
    keys = [*(f"{size} px" for size in SIZES_PX), "all sizes", "without blanks"]
    lines = [
        f"| language | background | {' | '.join(keys)} |",
        f"|---|---|{'---:|' * len(keys)}",
        *(
            f"| {row['language']} | {row['background']} | {' | '.join(f'{row[key]:.4f}' for key in keys)} |"
            for row in result["rows"]
        ),
    ]
    return "\n".join(lines) + f"\n\nFont: {Path(result['font']).name}."


def find_font(font: Path | None) -> Path:
    """The given font, or an installed one with Chinese letters.

    Raises:
        ConfigError: There is none.
    """
    found = next((path for path in ([font] if font else map(Path, FONTS)) if path.is_file()), None)
    if found is None:
        raise ConfigError(
            f"--font={font or ''}: no font with Chinese letters; give the path of one, or run: "
            "apt-get install fonts-noto-cjk"
        )
    return found


@functools.cache
def face_index(font: Path) -> int:
    """Number of the face for simplified Chinese in a font; 0 if none is named so.

    The first face of Noto's collection is for Japanese, whose letters differ.
    """
    with contextlib.suppress(OSError):  # behind the last face
        for index in itertools.count():
            family, _ = ImageFont.truetype(str(font), 16, index=index).getname()
            if family is not None and family.endswith(" SC"):
                return index
    return 0


def film_frames() -> list[np.ndarray]:
    """The middle frame of each of the demo's films, (H, W, 3)."""
    frames = []
    for path in demo.films().values():
        images, _ = demo.read_film(path)
        image = Image.fromarray(images[len(images) // 2])
        frames.append(np.asarray(image.resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC)))
    return frames


def draw(texts: Sequence[str], background: str, size_px: int, font: Path, film: np.ndarray) -> Picture:
    """A picture with a line of text in each band.

    Args:
        texts: At most NUM_BANDS lines.
        background: Key of PLAIN or OVER_FILM.
        size_px: Size of the font in pixels.
        font: Path of the font.
        film: Frame (H, W, 3) for backgrounds of OVER_FILM.
    """
    edge = OVER_FILM.get(background)
    color, plain = PLAIN.get(background, ("white", ""))
    image = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), plain) if plain else Image.fromarray(film)
    pen = ImageDraw.Draw(image)
    letters = ImageFont.truetype(str(font), size_px, index=face_index(font))
    for band, text in enumerate(texts):
        middle = WIDTH_PX / 2, (band + 0.5) * HEIGHT_PX / NUM_BANDS
        width = max(1, size_px // 12) if edge else 0
        pen.text(middle, text, color, letters, "mm", stroke_width=width, stroke_fill=edge)
    return Picture(np.array(image), tuple(texts))


def read(reader: TextReader, picture: Picture) -> list[tuple[str, str]]:
    """Each drawn line with what is read in its band."""
    lines = list(filter(is_readable, reader.read(picture.image)))
    return [(text, in_band(lines, band)) for band, text in enumerate(picture.lines)]


def in_band(lines: Sequence[Line], band: int) -> str:
    """The words whose middle lies in a band, from left to right."""
    inside = [line for line in lines if int((line.box[1] + line.box[3]) / 2 * NUM_BANDS) == band]
    return " ".join(line.text for line in sorted(inside, key=lambda line: line.box[0]))


def _joined(text: str) -> str:
    return "".join(text.split())
