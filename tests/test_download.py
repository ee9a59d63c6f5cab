"""Downloads against a server on this machine that misbehaves in every way we know."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from hubel.data import download as module
from hubel.data.download import PUBLISHED, Published, download, fetch
from hubel.errors import UserError

CONTENT = np.random.default_rng(0).integers(0, 256, 700_000, np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `mode` says how it misbehaves, `asked` lists the Range headers it got."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mode = "well"
        self.content = CONTENT
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/set/file.tar.gz"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is no error here."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        content, start = server.content, 0
        if server.mode in ("404", "503"):
            self.send_error(int(server.mode))
            return
        if wanted and server.mode != "no range":
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            begin = start + 1 if server.mode == "wrong range" else start
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = len(content)
        if server.mode == "cuts":
            stop = start + (len(content) - start) // 2 + 1
        elif server.mode == "cuts once":
            stop, server.mode = len(content) // 3, "well"
        self.wfile.write(content[start:stop])
        self.wfile.flush()
        self.close_connection = True


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def get(server: Server, target: Path, digest: str = SHA256, size: int = SIZE, **options) -> Path:
    return download(server.url, target, digest, size, pause_s=0, **options)


def test_a_whole_file(server, tmp_path):
    target = tmp_path / "new" / "folder" / "file.tar.gz"
    seen = []
    assert get(server, target, progress=lambda *facts: seen.append(facts)) == target
    assert target.read_bytes() == CONTENT
    assert seen[-1] == ("downloading file.tar.gz", SIZE, SIZE)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert len(seen) > 1
    assert not target.with_name("file.tar.gz.part").exists()
    # It is not fetched a second time.
    get(server, target)
    assert server.asked == [None]


def test_md5(server, tmp_path):
    digest = hashlib.md5(CONTENT).hexdigest().upper()
    assert get(server, tmp_path / "f", digest).read_bytes() == CONTENT


def test_a_connection_that_breaks_is_taken_up_again(server, tmp_path):
    server.mode = "cuts once"
    assert get(server, tmp_path / "f").read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={SIZE // 3}-"]


def test_an_interrupted_download_goes_on_in_the_next_call(server, tmp_path):
    server.mode = "cuts"
    message = r"could not be fetched: the connection was closed early; 350,001 of 700,000 bytes " \
              r"have arrived\. Run the same command again to go on from there, or fetch the file " \
              r"by hand and put it at '.*/f'$"  # fmt: skip
    with pytest.raises(UserError, match=message):
        get(server, tmp_path / "f", attempts=1)
    assert not (tmp_path / "f").exists()
    assert (tmp_path / "f.part").read_bytes() == CONTENT[:350_001]
    server.mode = "well"
    assert get(server, tmp_path / "f").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=350001-"]


@pytest.mark.parametrize(
    ("mode", "asked"),
    [("no range", ["bytes=1000-"]), ("wrong range", ["bytes=1000-", None])],
)
def test_a_server_that_cannot_go_on_starts_over(server, tmp_path, mode, asked):
    (tmp_path / "f.part").write_bytes(CONTENT[:1000])
    server.mode = mode
    assert get(server, tmp_path / "f").read_bytes() == CONTENT
    assert server.asked == asked


def test_a_wrong_digest_is_thrown_away(server, tmp_path):
    server.content = CONTENT[:-1] + b"!"
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(UserError, match=f"arrived with sha256 {found}, published is {SHA256}; it "
                       "was thrown away"):  # fmt: skip
        get(server, tmp_path / "f")
    assert not (tmp_path / "f").exists()
    assert not (tmp_path / "f.part").exists()


def test_a_damaged_part_is_thrown_away_and_the_next_call_is_whole(server, tmp_path):
    (tmp_path / "f.part").write_bytes(b"x" * 1000)
    with pytest.raises(UserError, match="thrown away"):
        get(server, tmp_path / "f")
    assert get(server, tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("length", [SIZE, SIZE + 5])
def test_a_part_that_is_whole_or_too_long(server, tmp_path, length):
    (tmp_path / "f.part").write_bytes((CONTENT + b"extra")[:length])
    assert get(server, tmp_path / "f").read_bytes() == CONTENT
    assert server.asked == ([] if length == SIZE else [None])


def test_a_server_with_less_than_is_here_already(server, tmp_path):
    server.content = CONTENT[:1000]
    (tmp_path / "f.part").write_bytes(CONTENT[:2000])
    with pytest.raises(UserError, match="1,000 of 700,000 bytes have arrived"):
        get(server, tmp_path / "f")


def test_nothing_beyond_the_published_size_is_read(server, tmp_path):
    server.content = CONTENT + CONTENT
    assert get(server, tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("mode", "message", "tries"),
    [
        ("404", r"answered 404 Not Found; fetch the file by hand from there or a mirror and", 1),
        ("503", r"could not be fetched: the server answered 503 Service Unavailable; 0 of", 4),
    ],
)
def test_errors_of_the_server(server, tmp_path, mode, message, tries):
    server.mode = mode
    with pytest.raises(UserError, match=message):
        get(server, tmp_path / "f")
    assert len(server.asked) == tries


def test_no_server_at_all(server, tmp_path):
    url = server.url.replace(f":{server.server_address[1]}", ":9")
    with pytest.raises(UserError, match=r"could not be fetched: .*; 0 of 700,000 bytes have arr"):
        download(url, tmp_path / "f", SHA256, SIZE, attempts=1)


def test_a_file_of_another_size_is_the_users_and_stays(server, tmp_path):
    (tmp_path / "f").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"has 4 bytes, the published file has 700,000; take it aw"):
        get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"mine"
    assert server.asked == []


def test_a_second_process_waits_for_the_first(server, tmp_path):
    with (
        FileLock(str(tmp_path / "f.lock")),
        pytest.raises(UserError, match="another process is downloading"),
    ):
        get(server, tmp_path / "f")


def test_a_full_disk_is_noticed_before(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match=r"has 10 bytes free, 700,000 are needed; free some, or"):
        get(server, tmp_path / "f")
    assert server.asked == []


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"file/f' cannot be written: "):
        get(server, tmp_path / "file" / "f")


def test_fetch(server, tmp_path, monkeypatch):
    small = Published(server.url, "https://example.org", SHA256, SIZE)
    monkeypatch.setitem(PUBLISHED, "cifar10", small)
    monkeypatch.setenv("HUBEL_CACHE", str(tmp_path))
    seen = []
    path = fetch("cifar10", lambda *facts: seen.append(facts))
    assert path == tmp_path / "downloads" / "file.tar.gz"
    assert path.read_bytes() == CONTENT
    assert seen
    assert fetch("cifar10", destination=tmp_path / "here") == tmp_path / "here" / "file.tar.gz"
    with pytest.raises(UserError, match=r"--download: 'cifar11' is not a published data set that "
                       r"hubel fetches; did you mean 'cifar10' or 'cifar100'\?$"):  # fmt: skip
        fetch("cifar11")


def test_what_is_published_is_written_down_whole():
    for published in PUBLISHED.values():
        assert published.url.startswith("https://")
        assert len(published.sha256) == 64
        assert published.size > 10**8
