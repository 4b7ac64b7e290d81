"""The page of an evaluation: self-contained, escaped, and the numbers in it those of the accumulators."""

from __future__ import annotations

import base64
import csv
import io
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from videotag.formats.train_log import TrainLog
from videotag.media.writer import write_video
from videotag.metrics import Confusion, Curve, MissedTags, Mistakes, PerClass, ScoreHistograms
from videotag.reports import eval_report, figures
from videotag.reports.eval_report import Observed, find_video, write_eval_report, write_per_class
from videotag.reports.figures import BASE_FONT, MISSING, drawable
from videotag.reports.tags_report import NUM_THUMBNAILS

EVIL = "<script>alert(1)</script>"
NAMES = ["cat", EVIL, "鲸鱼", "$dog$"]
SCORES = np.array([[0.9, 0.5, 0.3, 0.1], [0.2, 0.8, 0.7, 0.05], [0.4, 0.35, 0.15, 0.6]])
LABELS = np.array([[1, 0, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]])
IDS = ["f/a.npy", f"f/{EVIL}.npy", "f/c.npy"]


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, the rows of every table by its id, all text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.tables, self.texts = [], {}, []
        self._rows, self._cell = [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self._rows = self.tables.setdefault(dict(attrs).get("id", f"table{len(self.tables)}"), [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
            self._cell = self._rows[-1]

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = None

    def handle_data(self, data):
        self.texts.append(data)
        if self._cell is not None:
            self._cell[-1] += data

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)

    @property
    def pictures(self):
        urls = [attrs["src"] for tag, attrs in self.tags if tag == "img"]
        return [Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))) for url in urls]


def observe(scores, labels, ids, *, one_label=False, **options):
    threshold = None if one_label else 0.5
    observed = Observed(
        PerClass(threshold=threshold),
        ScoreHistograms(),
        Confusion() if one_label else MissedTags(),
        Mistakes(**options),
    )
    for observer in vars(observed).values():
        observer.update(scores, labels, ids)
    return observed


@pytest.fixture
def page_of(tmp_path):
    def make(observed, **options):
        write_eval_report(tmp_path / "e.html", {"gap": 0.12345, "num_videos": 3}, observed, **options)
        return (tmp_path / "e.html").read_text(encoding="utf-8")

    return make


def test_the_page_fetches_nothing_and_runs_its_own_script_alone(page_of):
    text = page_of(observe(SCORES, LABELS, IDS), class_names=NAMES, title=EVIL, video_root=EVIL)
    page = Page(text)
    for tag, attrs in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "href", "srcset", "action"):
            assert attrs.get(name, "data:").startswith("data:")
    assert not re.search(r"://|url\(|@import", text)
    assert page.count("script") == 1
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_names_from_files_are_shown_as_text(page_of):
    page = Page(page_of(observe(SCORES, LABELS, IDS), class_names=NAMES, title=EVIL))
    assert EVIL in page.texts, "the title"
    assert [row[1] for row in page.tables["classes"][1:]].count(EVIL) == 1
    assert any(f"f/{EVIL}.npy" in text for text in page.texts)


def test_the_class_table_is_sorted_from_the_worst_and_shows_dashes_for_what_is_not_known(page_of):
    page = Page(page_of(observe(SCORES, LABELS, IDS), class_names=NAMES))
    assert page.tables["metrics"] == [["gap", "0.1235"], ["num_videos", "3"]]
    head, *rows = page.tables["classes"]
    assert head == ["id", "class", "average precision", "precision", "recall", "videos"]
    # The numbers are derived in tests/metrics/test_per_class.py.
    assert rows == [
        ["3", "$dog$", "0.3333", "0.0000", "0.0000", "1"],
        ["0", "cat", "1.0000", "1.0000", "1.0000", "1"],
        ["2", "鲸鱼", "1.0000", "1.0000", "0.5000", "2"],
        ["1", EVIL, "–", "0.0000", "–", "0"],
    ]


def test_the_page_explains_head_and_tail_where_they_are_shown(tmp_path, page_of):
    observed, explained = observe(SCORES, LABELS, IDS), "thirds of the classes with videos"
    assert explained not in page_of(observed)
    write_eval_report(tmp_path / "g.html", {"mean_ap_head": 0.5, "mean_ap_tail": 0.25}, observed)
    page = Page((tmp_path / "g.html").read_text(encoding="utf-8"))
    assert page.tables["metrics"] == [["mean_ap_head", "0.5000"], ["mean_ap_tail", "0.2500"]]
    assert explained in " ".join(page.texts)


def test_of_many_classes_the_worst_and_the_best_are_shown(page_of, monkeypatch):
    monkeypatch.setattr(eval_report, "MAX_ROWS", 2)
    rng = np.random.default_rng(0)
    scores, labels = rng.random((30, 9)), rng.random((30, 9)) < 0.4
    labels[:, 4] = False
    observed = observe(scores, labels, ["v"] * 30)
    page = Page(page_of(observed))
    ap = observed.per_class.compute().average_precision
    order = [i for i in np.argsort(ap) if i != 4]
    assert [int(row[0]) for row in page.tables["classes"][1:]] == [*order[:2], *order[-2:]]
    assert "The 2 worst and the 2 best of 9 classes" in " ".join(page.texts)


def test_a_class_is_never_both_among_the_worst_and_the_best(page_of, monkeypatch):
    monkeypatch.setattr(eval_report, "MAX_ROWS", 2)
    labels = np.zeros((3, 9), int)
    labels[[0, 1, 2], [1, 4, 6]] = 1  # three classes have videos
    page = Page(page_of(observe(np.random.default_rng(0).random((3, 9)), labels, IDS)))
    assert sorted(row[0] for row in page.tables["classes"][1:]) == ["1", "4", "6"]


def test_worst_mistakes_show_truth_and_what_was_said(page_of):
    page = Page(page_of(observe(SCORES, LABELS, IDS, limit=1, top_k=2), class_names=NAMES))
    (heading,) = [text for text in page.texts if " · loss " in text]
    # Video 1 is 2 and 3: -log(.8 x .2 x .7 x .05) = 5.185; video 0: -log(.9 x .5 x .3 x .9) = 2.108.
    assert heading == f"f/{EVIL}.npy · loss 5.185"
    true, said = [rows for name, rows in page.tables.items() if name.startswith("table")]
    assert true == [["true"], ["鲸鱼", "0.700"], ["$dog$", "0.050"]]
    assert [row[:2] for row in said] == [["predicted"], [EVIL, "0.800"], ["鲸鱼 ✓", "0.700"]]


def test_pictures_are_png_and_not_empty(page_of):
    pictures = Page(page_of(observe(SCORES, LABELS, IDS), class_names=NAMES)).pictures
    assert [picture.format for picture in pictures] == ["PNG", "PNG"]
    for picture in pictures:
        assert min(picture.size) > 150
        assert np.asarray(picture.convert("L")).std() > 5


def test_one_label_per_video_has_a_confusion_matrix(page_of):
    ids = np.array([0, 2, 3])
    page = Page(page_of(observe(SCORES, ids, IDS, one_label=True), class_names=NAMES))
    assert "for the most confused classes" in " ".join(page.texts)
    assert "Precision and recall count the best-scored class" in " ".join(page.texts)
    assert len(page.pictures) == 2


def test_confusions_are_shaded_by_their_share_of_the_true_class(monkeypatch):
    shown = {}
    from matplotlib.axes import Axes

    def imshow(self, shares, **options):
        shown.update(shares=shares, vmax=options["vmax"])

    texts = []
    monkeypatch.setattr(Axes, "imshow", imshow)
    monkeypatch.setattr(Axes, "text", lambda self, x, y, text, **_: texts.append((y, x, text)))
    names = drawable([0, 1, 2], ["a", "b", "c"])
    figures.matrix_figure(
        np.array([[90, 10, 0], [1, 1, 0], [0, 0, 0]]),
        names,
        names,
        row_totals=np.array([100, 4, 0]),
        row_label="r",
        column_label="c",
    )
    assert shown["shares"].tolist() == [[0.9, 0.1, 0], [0.25, 0.25, 0], [0, 0, 0]]
    assert shown["vmax"] == 0.9
    assert texts == [(0, 0, "90"), (0, 1, "10"), (1, 0, "1"), (1, 1, "1")]


def test_learning_curves_are_drawn_for_logs_with_numbers_alone(page_of):
    log = TrainLog(
        {step: 1 / (step + 1) for step in range(3000)}, {0: {"gap": 0.1}, 1: {"gap": 0.2, "perr": 1}}
    )
    observed = observe(SCORES, LABELS, IDS)
    page = Page(page_of(observed, train_logs={EVIL: log}, best_metric="gap"))
    assert page.texts.count("Learning curves") == 1
    assert any(EVIL in text and "validation gap" in text for text in page.texts)
    assert len(page.pictures) == 3
    empty = Page(page_of(observed, train_logs={"ck": TrainLog()}))
    assert "Learning curves" not in empty.texts
    only_metric = page_of(observed, train_logs={"ck": TrainLog({}, {4: {"top1": 0.5}})}, best_metric="top1")
    assert "Learning curves" in Page(only_metric).texts


def test_a_long_loss_curve_becomes_means_of_neighbors():
    keys, means = figures._means({step: float(step % 2) for step in range(10_000)})
    assert keys.size == means.size == 1000
    assert (keys[0], means[0]) == (4.5, 0.5)
    assert figures._means({3: 2.0})[1].tolist() == [2.0]
    assert figures._means({})[0].size == 0


def test_paths_stand_below_a_short_title(page_of):
    page = Page(
        page_of(observe(SCORES, LABELS, IDS), title="Evaluation of X on a.list", note=f"List: {EVIL}.")
    )
    assert page.texts.count("Evaluation of X on a.list") == 2, "the title and the heading"
    assert f"List: {EVIL}." in page.texts


def test_nothing_confused_and_nothing_labelled_is_said_in_words(page_of):
    text = page_of(observe(np.zeros((2, 3)), np.zeros((2, 3)), ["a", "b"]))
    assert "No video has a label." in text
    assert "There are no confusions." in text
    assert "The 0 videos with the highest loss" in text
    assert not Page(text).pictures


def test_without_matplotlib_the_page_says_how_to_get_pictures(page_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = page_of(observe(SCORES, LABELS, IDS), class_names=NAMES)
    assert Page(text).texts.count(MISSING) == 2
    assert "pip install 'videotag[report]'" in MISSING
    assert not Page(text).pictures


# ---------------------------------------------------------------- thumbnails


def test_a_mistake_shows_the_video_that_its_features_came_from(page_of, tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (6, 32, 48, 3), dtype=np.uint8)
    write_video(tmp_path / "films" / "f" / "a.mp4", frames, fps=5)
    (tmp_path / "films" / "broken.mp4").write_bytes(b"not a video")
    ids = ["out/f/a.npy", "out/broken.npy", "out/gone.npy"]
    observed = observe(SCORES, [[0, 1, 0, 0]] * 3, ids)
    text = page_of(observed, video_root=tmp_path / "films")
    assert text.count("data:image/jpeg;base64,") == NUM_THUMBNAILS
    assert f"No thumbnails: {tmp_path}/films/broken.mp4 cannot be decoded." in text
    assert f"No thumbnails: no video of this name in {tmp_path}/films." in text
    assert page_of(observed).count("--video_root, the folder of the videos, was not given") == 3


def test_the_longest_part_of_the_path_that_is_there_is_the_video(tmp_path):
    for name in ("out/x/a.mp4", "x/a.mkv", "a.mp4", "b.c.MP4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_video("out/x/a.npy", tmp_path) == tmp_path / "out/x/a.mp4"
    assert find_video("/abs/other/x/a.npy", tmp_path) == tmp_path / "x/a.mkv"
    assert find_video("../elsewhere/a.npz", tmp_path) == tmp_path / "a.mp4"
    assert find_video("b.c.npy", tmp_path) == tmp_path / "b.c.MP4"
    assert find_video("c.npy", tmp_path) is None
    # Nothing outside the folder, although a video stands beside the features.
    assert find_video(str(tmp_path / "out/x/a.npy"), tmp_path / "x" / "none") is None
    assert find_video("../a.npy", tmp_path / "out") is None


# ---------------------------------------------------------------- names in figures


def test_names_no_font_has_become_ids(monkeypatch):
    monkeypatch.setattr(figures, "_best_font", lambda signs: None)
    names = drawable([4, 5, 6, 7, 8], ["cat", "鲸鱼", "", "a\tb", "x" * 40])
    assert names.texts == ["cat", "class 5", "class 6", "class 7", "x" * 23 + "…"]
    assert names.fonts == [BASE_FONT]


def test_an_installed_font_that_has_the_signs_is_used(monkeypatch):
    signs = {BASE_FONT: set("cat "), "Songti": set("鲸鱼")}
    monkeypatch.setattr(figures, "_best_font", lambda missing: "Songti")
    monkeypatch.setattr(figures, "_characters_of", signs.__getitem__)
    names = drawable([1, 2, 3], ["cat", "cat 鲸鱼", "猫"])
    assert names.texts == ["cat", "cat 鲸鱼", "class 3"]
    assert names.fonts == [BASE_FONT, "Songti"]


def test_the_font_with_boxes_for_everything_is_never_chosen():
    assert figures._best_font("\U000f1234") is None  # for private use: no font has a sign there
    assert figures._best_font(set()) is None


def test_the_oddest_names_are_drawn_without_a_warning():
    names = drawable(range(5), ["W" * 99, "_hidden", "$x_{$", "\\alpha", "%"])
    assert names.texts[1:] == ["_hidden", "$x_{$", "\\alpha", "%"]
    one, labels = names._replace(texts=names.texts[:1]), {"row_label": "rows", "column_label": "columns"}
    for rows, columns in ((one, one), (names, names)):
        counts = np.ones((len(rows.texts), len(columns.texts)), int)
        url = figures.matrix_figure(counts, rows, columns, row_totals=np.full(len(rows.texts), 4), **labels)
        assert url.startswith("data:image/png")
    curve = Curve(np.array([0.5]), np.array([0.5]), np.array([0.5]))
    assert figures.curves_figure(curve, [curve] * 5, names).startswith("data:image/png")


# ---------------------------------------------------------------- per_class.csv


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_per_class_csv_leaves_unknown_numbers_and_names_empty(tmp_path):
    metric = PerClass()
    metric.update(SCORES, LABELS)
    write_per_class(tmp_path / "p.csv", metric.compute(), ["cat", 'a "b", c', "鲸鱼", "dog"])
    head, *rows = rows_of(tmp_path / "p.csv")
    numbers = ["average_precision", "precision", "recall", "support", "group"]
    assert head == ["class_id", "class_name", *numbers]
    assert rows[1] == ["1", 'a "b", c', "", "0.000000", "", "0", ""]
    assert rows[2] == ["2", "鲸鱼", "1.000000", "1.000000", "0.500000", "2", "head"]
    assert [row[-1] for row in rows] == ["middle", "", "head", "tail"]  # support 1 0 2 1
    write_per_class(tmp_path / "p.csv", metric.compute(), None)
    assert {row[1] for row in rows_of(tmp_path / "p.csv")[1:]} == {""}
