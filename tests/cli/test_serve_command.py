"""``advkit serve``: two routes for one reader, and nothing else for anyone."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from advkit.results.serve import ReportServer, is_loopback

ROOT = Path(__file__).parents[2]


def made_up(folder: Path, models: int) -> None:
    args = [f"--models={models}", "--defenses=1", "--attacks=1", "--radii=2", "--examples=20", "--pictures=1"]
    subprocess.run([sys.executable, ROOT / "scripts" / "made_up_store.py", folder, *args], check=True)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReportServer]:
    monkeypatch.setattr("advkit.results.serve._FRESH_SECONDS", 0.0)
    with ReportServer(tmp_path / "store", "127.0.0.1", 0) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(
    server: ReportServer, path: str, method: str = "GET", **headers: str
) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.putrequest(method, path, skip_host="Host" in headers)  # the path as it is, dots and all
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, answer.headers


def test_two_host_headers_are_refused(server: ReportServer):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.putrequest("GET", "/")
    connection.putheader("Host", "elsewhere.example")
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (400, b"A request has one Host header.\n")
    connection.close()


def test_a_store_that_is_not_there_yet_waits_and_then_shows(server: ReportServer):
    folder = server.pages.folder
    status, page, headers = ask(server, "/")
    assert status == 200
    assert "Waiting for results" in page
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    first = json.loads(ask(server, "/version")[1])["version"]
    made_up(folder, 1)
    second = json.loads(ask(server, "/version")[1])["version"]
    assert first != second
    status, page, headers = ask(server, "/")
    assert "made-up-1" in page
    assert headers["ETag"] == f'"{second}"'
    assert ask(server, "/", If_None_Match=headers["ETag"])[:2] == (304, "")
    assert json.loads(ask(server, "/version")[1])["version"] == second, "reading changes nothing"
    made_up(folder, 2)
    assert "made-up-2" in ask(server, "/", If_None_Match=headers["ETag"])[1]


def test_a_file_that_cannot_be_read_is_said_and_not_shown_as_an_error(server: ReportServer):
    made_up(server.pages.folder, 1)
    cell = next(server.pages.folder.glob("cells/*/cell.json"))
    cell.write_text("{")
    status, page, _ = ask(server, "/")
    assert status == 200
    assert "cannot be read" in page


@pytest.mark.parametrize(
    "path",
    [
        "/../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/study.json",
        "/cells/",
        "http://127.0.0.1/",
        "file:///etc/passwd",
        "/version/..",
        "*",
    ],
)
def test_nothing_but_the_report_is_there(server: ReportServer, path: str):
    status, text, _ = ask(server, path)
    assert status == 404
    assert text == "There is only the report, at /.\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "NONSENSE"])
def test_other_methods_are_refused(server: ReportServer, method: str):
    status, text, headers = ask(server, "/", method)
    assert (status, text) == (405, "Only GET and HEAD are answered.\n")
    assert headers["Allow"] == "GET, HEAD"


def test_head_answers_without_a_body(server: ReportServer):
    status, text, headers = ask(server, "/", "HEAD")
    assert (status, text) == (200, "")
    assert int(headers["Content-Length"]) > 1000


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", ""]
)
@pytest.mark.parametrize("path", ["/", "/version"])
def test_a_name_that_only_resolves_to_this_machine_is_refused(server: ReportServer, host: str, path: str):
    status, text, _ = ask(server, path, Host=host)
    assert status == 421
    assert "<" not in text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1:80", "[::1]:8000", "192.168.1.4:8000"])
def test_addresses_and_this_machines_names_are_answered(server: ReportServer, host: str):
    assert ask(server, "/version", Host=host)[0] == 200


def test_a_bug_shows_the_client_one_sentence(
    server: ReportServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def broken(*_: object, **__: object) -> str:
        raise RuntimeError("a secret path")

    monkeypatch.setattr("advkit.results.serve.report_page", broken)
    made_up(server.pages.folder, 1)
    status, text, _ = ask(server, "/")
    assert status == 500
    assert text == "The report could not be made; the terminal of advkit serve says why.\n"
    assert ask(server, "/version")[0] == 200


def test_readers_who_leave_early_are_nobodys_news(
    server: ReportServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(server.pages, "page", lambda: ("1", b" " * 30_000_000))  # more than any buffer takes
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=20) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed with a reset
    assert ask(server, "/version")[0] == 200
    server.shutdown()
    server.server_close()
    assert capfd.readouterr().err == ""


def test_many_readers_at_once_get_the_same_page(server: ReportServer):
    made_up(server.pages.folder, 1)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(server, "/")[:2], range(24)))
    assert {status for status, _ in answers} == {200}
    assert len({page for _, page in answers}) == 1


def test_the_server_does_not_tell_what_it_runs_on(server: ReportServer):
    assert ask(server, "/version")[2]["Server"] == "advkit"


@pytest.mark.parametrize(
    "sent", [b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n"]
)
def test_a_request_that_is_none_gets_a_sentence(server: ReportServer, sent: bytes):
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=20) as client:
        client.sendall(sent)
        answer = client.recv(65536)
    assert b"Traceback" not in answer
    assert b"<html" not in answer.lower()
    assert b"This is no request" in answer


def test_a_port_in_use_is_one_sentence(refused: Callable[..., str], server: ReportServer, tmp_path: Path):
    said = refused("serve", tmp_path, "--port", server.server_address[1])
    assert "in use" in said
    assert "--port" in said


def test_a_host_that_is_none_and_a_file_are_refused(refused: Callable[..., str], tmp_path: Path):
    assert "999.999.1.1" in refused("serve", tmp_path, "--host", "999.999.1.1", "--port", "0")
    (tmp_path / "file").write_text("")
    assert "is a file" in refused("serve", tmp_path / "file")
    assert "--port" in refused("serve", tmp_path, "--port", "70000")


def test_what_can_never_become_a_folder_is_not_waited_for(refused: Callable[..., str], tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    assert "is no folder" in refused("serve", tmp_path / "pipe", "--port", "0")
    assert "at most 255 bytes" in refused("serve", tmp_path / ("x" * 300), "--port", "0")


def test_only_this_machine_is_loopback():
    assert [host for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost") if not is_loopback(host)] == []
    assert [host for host in ("0.0.0.0", "::", "192.168.0.1", "example.org") if is_loopback(host)] == []


@pytest.mark.parametrize(("host", "notes"), [("127.0.0.1", 0), ("0.0.0.0", 1)])
def test_the_command_prints_its_address_and_ends_quietly_by_ctrl_c(tmp_path: Path, host: str, notes: int):
    args = [sys.executable, "-m", "advkit", "serve", tmp_path / "none", "--port", "0", "--host", host]
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        assert f"http://{host}:" in line
        port = int(line.partition(f"http://{host}:")[2].partition("/")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/")
        assert "Waiting for results" in connection.getresponse().read().decode()
        connection.close()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=20)
    assert running.returncode == 0
    assert out == ""
    assert err.count("Note: ") == notes
    assert len(err.splitlines()) == notes
