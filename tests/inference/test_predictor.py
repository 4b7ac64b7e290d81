"""A predictor: results do not depend on company, nothing is lost, memory stays flat, it can be ended."""

from __future__ import annotations

import gc
import resource
import shutil
import threading
import time
from concurrent.futures import CancelledError, wait
from pathlib import Path

import numpy as np
import pytest

from videotag.errors import BusyError, ClosedError, DecoderLostError, MediaError
from videotag.formats.filelist import ListEntry
from videotag.inference.frame_tagging import FrameTagger, TagOptions
from videotag.inference.predictor import Predictor
from videotag.inference.tagger import Tagger
from videotag.media import decode_pool
from videotag.media.writer import write_video
from videotag.sections import VideoInferSection

SMALL = {"seg_num": 4, "short_size": 40, "target_size": 32}


class Brightness(FrameTagger):
    """Stands in for networks: two scores, of the mean brightness of a video's frames."""

    def __init__(self, **section):
        self.section = VideoInferSection(**SMALL | section)
        self.options = TagOptions(["bright", "dark"], top_k=2)
        self.threads = set()
        self.gate = None

    def encode(self, videos):
        for item, frames in videos:
            self.threads.add(threading.get_ident())
            if self.gate is not None:
                self.gate.wait()
            yield item, frames.images.mean() / 255

    def scores(self, prepared, parts):
        return np.tile([prepared, 1 - prepared], (1 + len(parts), 1)), {}


@pytest.fixture
def clips(work_dir):
    """20 videos of mixed lengths; video i is brighter than video i - 1."""
    rng = np.random.default_rng(0)
    for i in range(20):
        frames = rng.integers(0, 20, (4 + i % 5, 48, 64, 3)) + 11 * i
        write_video(f"{i}.mp4", frames.astype(np.uint8), fps=8)
    return [f"{i}.mp4" for i in range(20)]


@pytest.mark.slow
def test_a_hundred_requests_at_once_give_the_results_of_one_after_the_other(clips):
    tagger = Tagger.load(precision="f32", overrides=[("INFER.seg_num", 6)])
    expected = {clip: tagger.tag(clip).to_dict() for clip in clips}
    futures = []

    def submit(part):
        futures.extend([(clip, tagger.submit(clip)) for clip in part])

    threads = [threading.Thread(target=submit, args=(clips,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(futures) == 100
    for clip, future in futures:
        assert future.result().to_dict() == expected[clip]
    tagger.close()


def test_one_thread_calls_the_networks_whoever_submits(clips):
    networks = Brightness()
    with Predictor(networks) as predictor:
        results = [predictor.submit(clip) for clip in clips]
        levels = [future.result().tags for future in results]
    assert len(networks.threads) == 1
    assert threading.get_ident() not in networks.threads
    found = [next(tag.probability for tag in tags if tag.class_name == "bright") for tags in levels]
    assert found == sorted(found)


def test_a_video_that_cannot_be_decoded_fails_alone(clips):
    Path("bad.mp4").write_text("no video", encoding="utf-8")
    with Predictor(Brightness()) as predictor:
        futures = [predictor.submit(path) for path in (clips[0], "bad.mp4", "gone.mp4", clips[1])]
        assert futures[0].result().path == clips[0]
        assert futures[3].result().path == clips[1]
        for future in futures[1:3]:
            with pytest.raises(MediaError):
                future.result()


def test_an_error_of_the_networks_is_that_of_their_request(clips):
    networks = Brightness()
    scores = networks.scores

    def fail_once(prepared, parts):
        networks.scores = scores
        raise MemoryError("no room")

    networks.scores = fail_once
    with Predictor(networks) as predictor:
        with pytest.raises(MemoryError, match="no room"):
            predictor.submit(clips[0]).result()
        assert predictor.submit(clips[1]).result().path == clips[1]


def test_a_full_queue_is_told_at_once_to_those_who_do_not_wait(clips):
    networks = Brightness(batch_size=1, buf_size=4)
    networks.gate = threading.Event()
    with Predictor(networks, max_waiting=2) as predictor:
        futures = []

        def fill():
            for _ in range(100):
                futures.append(predictor.submit(clips[0], wait=False))

        with pytest.raises(BusyError, match="2 requests are already queued; try again later"):
            fill()
        assert BusyError.retriable
        networks.gate.set()
        assert {future.result().path for future in futures} == {clips[0]}


def test_what_is_cancelled_is_neither_decoded_nor_tagged(clips):
    networks = Brightness(batch_size=1, buf_size=4)
    networks.gate = threading.Event()
    with Predictor(networks) as predictor:
        futures = [predictor.submit(clip) for clip in clips]
        cancelled = [future for future in futures[5:] if future.cancel()]
        assert len(cancelled) == 15
        networks.gate.set()
        done, _ = wait(futures)
        assert len(done) == 20
    for future in cancelled:
        with pytest.raises(CancelledError):
            future.result()
    assert all(future.result().path for future in futures[:5])


@pytest.fixture
def hanging(clips, monkeypatch):
    """A video whose decoder hangs after its first frame."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "media")
    monkeypatch.setattr(decode_pool, "READER", "faulty_reader:FaultyReader")
    return str(shutil.copy(clips[0], "hangs.mp4"))


def test_cancelling_ends_a_decoding_that_hangs(hanging, monkeypatch):
    begun = threading.Event()
    reader = decode_pool.DecodePool.reader

    def told(pool, path, **options):
        begun.set()
        return reader(pool, path, **options)

    monkeypatch.setattr(decode_pool.DecodePool, "reader", told)
    with Predictor(Brightness(stall_limit_sec=0)) as predictor:
        future = predictor.submit(hanging)
        assert begun.wait(300)
        assert future.cancel()
    # The block waits for the threads: none of them hangs.


def test_the_stall_limit_holds_for_single_files(hanging):
    with Predictor(Brightness(stall_limit_sec=0.5)) as predictor, pytest.raises(DecoderLostError):
        predictor.submit(hanging).result()


def test_closing_finishes_what_was_submitted_or_cancels_it(clips):
    predictor = Predictor(Brightness())
    futures = [predictor.submit(clip) for clip in clips]
    predictor.close()
    assert [future.result().path for future in futures] == clips
    with pytest.raises(ClosedError, match="this Tagger or Predictor is closed; create a new one"):
        predictor.submit(clips[0])
    predictor.close()
    networks = Brightness()
    networks.gate = threading.Event()
    other = Predictor(networks)
    futures = [other.submit(clip) for clip in clips]
    threading.Timer(0.2, networks.gate.set).start()
    other.close(cancel=True)
    assert all(future.done() for future in futures)
    assert sum(future.cancelled() for future in futures) >= 10


def test_a_predictor_that_nobody_holds_ends_its_threads(clips):
    before = threading.active_count()
    predictor = Predictor(Brightness())
    assert predictor.submit(clips[0]).result().path == clips[0]
    assert threading.active_count() > before
    del predictor
    gc.collect()
    assert threading.active_count() <= before


def test_a_predictor_that_is_collected_in_its_own_thread_ends_its_threads(clips):
    class Collects(Brightness):
        def encode(self, videos):
            yield from super().encode(videos)
            gc.collect()

    before = threading.active_count()
    networks = Collects(num_reader_threads=1)
    networks.gate = threading.Event()
    cycle = [Predictor(networks)]
    cycle.append(cycle)
    futures = [cycle[0].submit(clip) for clip in clips]
    del cycle  # only the collector frees it now
    networks.gate.set()
    assert not wait(futures, timeout=300).not_done
    for _ in range(3000):
        if threading.active_count() <= before:
            break
        time.sleep(0.1)
    assert threading.active_count() <= before


def test_a_submit_that_waits_for_room_ends_when_the_predictor_is_closed(clips):
    networks = Brightness()
    networks.gate = threading.Event()
    predictor = Predictor(networks, max_waiting=1)
    ends = []

    def submit(clip):
        try:
            ends.append(predictor.submit(clip))
        except ClosedError as error:
            ends.append(error)

    threads = [threading.Thread(target=submit, args=(clip,)) for clip in clips]
    for thread in threads:
        thread.start()
    threading.Timer(0.5, networks.gate.set).start()
    predictor.close(cancel=True)
    for thread in threads:
        thread.join(300)
    assert len(ends) == len(clips)
    assert all(isinstance(end, ClosedError) or end.done() for end in ends)


def test_bytes_arrays_and_entries_of_a_list_are_tagged_too(clips):
    frames = np.full((8, 48, 64, 3), 200, np.uint8)
    with Predictor(Brightness()) as predictor:
        by_path = predictor.submit(clips[3]).result()
        by_bytes = predictor.submit(Path(clips[3]).read_bytes()).result()
        by_entry = predictor.submit(ListEntry(clips[3])).result()
        assert (by_bytes.path, by_entry.path) == ("bytes", clips[3])
        assert by_path.tags == by_bytes.tags == by_entry.tags
        assert predictor.submit(frames, fps=8).result().tags[0].class_name == "bright"


@pytest.mark.slow
def test_a_thousand_requests_leave_no_memory_behind(clips):
    def most_mb():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    with Predictor(Brightness()) as predictor:
        for _ in range(5):
            wait([predictor.submit(clip) for clip in clips])
        before = most_mb()
        for _ in range(50):
            wait([predictor.submit(clip) for clip in clips])
        assert most_mb() - before < 20
