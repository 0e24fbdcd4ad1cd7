"""Archives of a release: downloads that are cut off, files put there by hand, damage."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
from dataclasses import replace

import pytest
from pipeline.engine.errors import PipelineError
from pipeline.text import archives

from tests.pipeline.releases import write_tgz


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` at any address, as badly as the test asks."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.cut_after: list[int] = []  # bytes to send before each hanging up
        self.ranges = True
        self.status = 0
        self.kind = "application/gzip"
        self.asked: list[str | None] = []

    def handle_error(self, request, client_address):
        pass  # the client hung up

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.tgz"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        if server.status:
            self.send_error(server.status)
            return
        start = int(re.match(r"bytes=(\d+)-$", asked)[1]) if asked and server.ranges else 0
        if start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", server.kind)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        end = start + server.cut_after.pop(0) if server.cut_after else None
        self.wfile.write(server.content[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(archives.time, "sleep", lambda seconds: None)
    server = Server(bytes(range(256)) * 5000)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def archive(server):
    return archives.Archive(
        "file.tgz",
        "some text",
        server.url,
        bytes=len(server.content),
        checksum=f"sha256:{hashlib.sha256(server.content).hexdigest()}",
    )


def test_a_download_goes_on_after_each_cut(server, archive, tmp_path):
    server.cut_after = [300_000, 500_000]
    path = archives.get(archive, tmp_path, None)
    assert path.read_bytes() == server.content
    assert server.asked == [None, "bytes=300000-", "bytes=800000-"]
    archives.get(archive, tmp_path, None)
    assert len(server.asked) == 3  # what is there is not asked for again


def test_a_second_start_goes_on_too(server, archive, tmp_path):
    server.cut_after = [100_000] + [0] * 4
    with pytest.raises(PipelineError, match=r"cut off \(the part so far is kept"):
        archives.get(archive, tmp_path, None)
    assert (tmp_path / "file.tgz.part").stat().st_size == 100_000
    assert not (tmp_path / "file.tgz").exists()
    archives.get(archive, tmp_path, None)
    assert server.asked[-1] == "bytes=100000-"
    assert [path.name for path in tmp_path.iterdir()] == ["file.tgz"]


def test_a_kill_after_the_last_byte(server, archive, tmp_path):
    (tmp_path / "file.tgz.part").write_bytes(server.content)
    assert archives.get(archive, tmp_path, None).read_bytes() == server.content


def test_a_part_that_is_too_long_is_thrown_away(server, archive, tmp_path):
    (tmp_path / "file.tgz.part").write_bytes(server.content + b"more")
    assert archives.get(archive, tmp_path, None).read_bytes() == server.content


def test_a_server_that_cannot_resume_sends_it_all(server, archive, tmp_path):
    server.ranges = False
    server.cut_after = [300_000]
    assert archives.get(archive, tmp_path, None).read_bytes() == server.content


@pytest.mark.parametrize(("status", "kind"), [(404, ""), (503, ""), (0, "text/html")])
def test_an_address_that_no_longer_answers(server, archive, tmp_path, status, kind):
    server.status, server.kind = status, kind or server.kind
    archive = replace(archive, hint="it moved to the attic")
    with pytest.raises(PipelineError) as error:
        archives.get(archive, tmp_path, None)
    for part in ("file.tgz", "some text", server.url, "moved to the attic", str(tmp_path)):
        assert part in str(error.value)
    assert f"--archives {tmp_path}" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(server.asked) == (1 if status == 404 else 5)


def test_nobody_listens(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(archives.time, "sleep", lambda seconds: None)
    gone = replace(archive, url="http://127.0.0.1:9/file.tgz")
    with pytest.raises(PipelineError, match=r"file\.tgz could not be downloaded: .*refused"):
        archives.get(gone, tmp_path, None)


def test_by_hand_nothing_is_downloaded(server, archive, tmp_path):
    with pytest.raises(PipelineError, match=r"file\.tgz is missing: download some text from http"):
        archives.get(archive, tmp_path / "downloads", tmp_path)
    (tmp_path / "file.tgz").write_bytes(server.content)
    assert archives.get(archive, tmp_path / "downloads", tmp_path) == tmp_path / "file.tgz"
    assert server.asked == []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: content[:-1], "is cut off: 1279999 bytes instead of 1280000"),
        (lambda content: content + b"x", "is too long"),
        (lambda content: b"x" + content[1:], "is damaged or another release: its sha256 is"),
    ],
)
def test_a_file_by_hand_is_checked(server, archive, tmp_path, damage, says):
    (tmp_path / "file.tgz").write_bytes(damage(server.content))
    with pytest.raises(PipelineError, match=says):
        archives.get(archive, tmp_path, tmp_path)


def test_extract_takes_what_matches(tmp_path):
    members = {"a/one.de": b"eins", "./a/one.en": b"one", "a/two.de": b"zwei", "b/x": b"x" * 9999}
    write_tgz(tmp_path / "x.tgz", members)
    found = archives.extract(tmp_path / "x.tgz", ["a/one.*", "b/?"], tmp_path / "out")
    assert found == ["a/one.de", "a/one.en", "b/x"]
    assert (tmp_path / "out/a/one.en").read_bytes() == b"one"
    assert not (tmp_path / "out/a/two.de").exists()


@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: d[:-6], lambda d: b"<p>"])
def test_an_archive_without_a_known_size_that_is_cut_off(tmp_path, damage):
    path = tmp_path / "th-en.tgz"
    write_tgz(path, {"a": bytes(range(256)) * 999, "b": b"b"})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(PipelineError, match=r"th-en\.tgz is cut off or damaged"):
        archives.extract(path, ["a"], tmp_path / "out")


def test_an_archive_cannot_write_elsewhere(tmp_path):
    write_tgz(tmp_path / "x.tgz", {"a/../../x.de": b"x"})
    assert archives.extract(tmp_path / "x.tgz", ["a/*.de"], tmp_path / "out") == []
