"""A server of one page: the report of a store, made anew when the store has changed. For one reader on this machine.

Two routes, no files: nothing that a request says ever becomes a path. A page elsewhere can neither read the answers (no
CORS, and the name in the Host header must be an address or this machine's own) nor change anything (nothing can be changed).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import socket
import stat
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from advkit.errors import InputError
from advkit.results.grid import load_grid
from advkit.results.report import policy, report_page, waiting_page

__all__ = ["ReportServer", "is_loopback"]

_IDLE_SECONDS = 15
_FRESH_SECONDS = 1.0  # the store is not looked at more often, however many readers ask


class Pages:
    """The page of a store, kept until the store changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._page: tuple[str, bytes] | None = None
        self._version = ("", -_FRESH_SECONDS)

    def version(self) -> str:
        """A text that changes with the store: a shard that is done, a cell, the study."""
        with self._looking:
            text, at = self._version
            if time.monotonic() - at >= _FRESH_SECONDS:
                text = self._look()
                self._version = (text, time.monotonic())
            return text

    def page(self) -> tuple[str, bytes]:
        """The version and its page."""
        with self._lock:
            version = self.version()  # before the store is read: what comes in between is noticed next time
            if self._page is None or self._page[0] != version:
                self._page = (version, self._make(version).encode("utf-8", "replace"))
            return self._page

    def _make(self, version: str) -> str:
        try:
            return report_page(load_grid(self.folder), version=version)
        except InputError as error:
            why = (
                f"{str(error).rstrip('.')}." if (self.folder / "store.json").exists() else "There is no sweep here yet."
            )
            return waiting_page(self.folder, why, version=version)

    def _look(self) -> str:
        digest = hashlib.blake2b(digest_size=8)
        for path in (self.folder / "store.json", self.folder / "study.json"):
            digest.update(_age(path))
        try:
            with os.scandir(self.folder / "cells") as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    digest.update(os.fsencode(entry.name) + _age(Path(entry.path)))  # a shard renamed into it renews it
        except OSError:
            digest.update(b"no cells")
        return digest.hexdigest()


class ReportServer(ThreadingHTTPServer):
    """Serves the report of a store until it is stopped. Port 0 takes a free one."""

    daemon_threads = True
    allow_reuse_address = os.name == "posix"

    def __init__(self, folder: Path, host: str, port: int) -> None:
        _check_place(folder)
        self.pages = Pages(folder)
        self.hosts = {"localhost", host.lower(), socket.gethostname().lower()}
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self.address_family = family
            super().__init__((str(address[0]), port), _Handler)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(
                f"the report cannot be served at {host}:{port} ({reason}); give another --port or --host."
            ) from None
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.server_address[1]}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader who leaves before the page has arrived is nobody's news; a bug is told."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as socketserver declares it

    def knows(self, host: str) -> bool:
        """Whether a Host header can be meant for this server.

        A page elsewhere that has its own name resolve to this machine (DNS rebinding) sends that name, never an address.
        """
        name = host.lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") <= 1:
            name = name.partition(":")[0]
        return name in self.hosts or _is_address(name)


def _check_place(folder: Path) -> None:
    """Refuse what can never become the folder of a sweep; one that is not there yet may."""
    try:
        kind = os.stat(folder).st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"the folder {folder} cannot be read ({reason}); give that of a sweep.") from None
    if not stat.S_ISDIR(kind):
        raise InputError(f"{folder} is no folder; give that of a sweep, which may still be to come.")


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    protocol_version = "HTTP/1.1"
    server_version = "advkit"
    timeout = _IDLE_SECONDS
    wbufsize = -1  # head and body go out together
    routes: ClassVar[dict[str, str]] = {"/": "_report", "/index.html": "_report", "/version": "_version"}

    def do_GET(self) -> None:
        route = self.routes.get(self.path.partition("?")[0])
        hosts = self.headers.get_all("Host", [])
        if len(hosts) > 1:
            self._say(400, "A request has one Host header.")
        elif not self.server.knows(hosts[0] if hosts else ""):
            self._say(421, "This server does not go by that name.")
        elif self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self._say(400, "A request with a body makes no sense here.")
        elif route is None:
            self._say(404, "There is only the report, at /.")
        else:
            try:
                version, kind, body = getattr(self, route)()
            except Exception:
                self._say(500, "The report could not be made; the terminal of advkit serve says why.")
                raise
            self._answer(200, kind, body, version)

    do_HEAD = do_GET  # noqa: N815  # _answer leaves the body out

    def _report(self) -> tuple[str, str, bytes]:
        version, page = self.server.pages.page()
        return version, "text/html; charset=utf-8", page

    def _version(self) -> tuple[str, str, bytes]:
        version = self.server.pages.version()
        return version, "application/json", json.dumps({"version": version}).encode()

    def _say(self, status: int, sentence: str) -> None:
        self._answer(status, "text/plain; charset=utf-8", f"{sentence}\n".encode())

    def _answer(self, status: int, kind: str, body: bytes, version: str = "") -> None:
        tag = f'"{version}"'
        if version and self.headers.get("If-None-Match") == tag:
            status, body = 304, b""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        if version:
            self.send_header("ETag", tag)
        if status == 405:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Connection", "close")  # which also has the server end when it is told to
        for name, value in (
            ("Cache-Control", "no-cache"),
            ("Content-Security-Policy", f"{policy(served=True)}; frame-ancestors 'none'"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses: another method, or a request that is none."""
        if code == 501:
            self._say(405, "Only GET and HEAD are answered.")
            return
        self.command = getattr(self, "command", None) or "GET"
        self.request_version = "HTTP/1.1"
        self.headers = getattr(self, "headers", None) or self.MessageClass()
        self._say(code, "This is no request that is understood here.")

    def version_string(self) -> str:
        """Which Python it is, is nobody's business."""
        return self.server_version

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the standard library's
        """Requests are nobody's news."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return host.lower() == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _age(path: Path) -> bytes:
    try:
        found = path.stat()
    except OSError:
        return b"-"
    return f"{found.st_mtime_ns} {found.st_size};".encode()
