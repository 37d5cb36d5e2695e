"""Promise: what is refused before it can be read is counted and logged like every refusal."""

import socket
from pathlib import Path

from tests.behaviour.test_bad_input import CLOSED
from tests.command import Command


def test_a_request_that_is_not_http_has_a_log_line_and_a_metric(tmp_path: Path) -> None:
    command = Command(tmp_path, CLOSED)
    with command.serving():
        with socket.create_connection(("127.0.0.1", command.port), timeout=10) as client:
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            assert client.recv(65_536).startswith(b"HTTP/1.1 400 ")
        counted = 'tollway_requests_total{endpoint="unread",error_source="caller",model="none",status="400"}'
        assert command.metric(counted) == 1
    lines = [line for line in command.log_lines() if line["endpoint"] == "unread"]
    assert [(line["status"], line["error"], line["peer"]) for line in lines] == [
        (400, "malformed_request", "127.0.0.1")
    ]
