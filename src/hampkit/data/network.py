"""Whether a server can be reached at all: without a network, a download would otherwise wait for tens of seconds."""

from __future__ import annotations

import queue
import socket
import threading
import urllib.request
from urllib.parse import urlsplit

PATIENCE = 1.0  # seconds until a connection must stand
_PORTS = {"http": 80, "https": 443}


def check_reachable(url: str) -> None:
    """Check within a second that a connection to the server of a URL, or to the proxy for it, can be made.

    Raises: `OSError` if none can. Looking up a name has no time limit of its own, so it happens in a thread.
    """
    host, port = _server(url)
    answers: queue.Queue[OSError | None] = queue.Queue()

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=PATIENCE).close()
        except OSError as error:
            answers.put(error)
        else:
            answers.put(None)

    threading.Thread(target=connect, daemon=True).start()
    try:
        error = answers.get(timeout=PATIENCE)
    except queue.Empty:
        error = TimeoutError("no answer")
    if error is not None:
        raise ConnectionError(f"no connection to {host} within {PATIENCE:g} s ({error.strerror or error})")


def _server(url: str) -> tuple[str, int]:
    """The host and port that a request for a URL connects to."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80)
