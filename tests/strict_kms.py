"""A KMS of our own over HTTP: as strict as AWS's where moto is not.

It speaks KMS' JSON 1.1 to boto3, and keeps what AWS keeps: the encryption context is authenticated as the pairs that
it is, a key that is disabled or pending deletion is refused, each caller may do what it was allowed and nothing else,
and a ciphertext opens by the key that made it alone. Signatures are not checked.
"""

import base64
import contextlib
import json
import os
import re
import socket
import threading
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ACCOUNT = "111122223333"
ALL = frozenset({"GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "Encrypt", "Decrypt", "ReEncrypt"})
HELD_S_MAX = 10.0


class _Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class _Key:
    material: bytes
    state: str = "Enabled"


@dataclass
class StrictKms:
    """The server. `calls` are the actions that were asked for, refused ones too."""

    calls: list[str] = field(default_factory=list)
    _keys: dict[str, _Key] = field(default_factory=dict)
    _allowed: dict[str, frozenset[str]] = field(default_factory=dict)
    _open: threading.Event = field(default_factory=threading.Event)
    _server: ThreadingHTTPServer | None = None
    _port: int = 0
    _connections: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._open.set()
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._open.set()
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen; again on the same port after `stop`."""
        kms = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, answer = kms.answer(
                    self.headers["x-amz-target"].removeprefix("TrentService."),
                    self.headers.get("authorization", ""),
                    json.loads(body),
                )
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/x-amz-json-1.1")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 64

            def process_request(self, request: Any, client_address: Any) -> None:
                kms._connections.append(request)
                super().process_request(request, client_address)

            def handle_error(self, *_: object) -> None:  # a caller that gave up
                pass

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections. Safe to repeat."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        for connection in self._connections:  # those that are kept open
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def hold(self) -> None:
        """Take calls, and answer none until `release`."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def add_key(self, region: str = "eu-west-1") -> str:
        """A new key's ARN."""
        arn = f"arn:aws:kms:{region}:{ACCOUNT}:key/{uuid.uuid4()}"
        self._keys[arn] = _Key(os.urandom(32))
        return arn

    def set_state(self, arn: str, state: str) -> None:
        """`Enabled`, `Disabled` or `PendingDeletion`."""
        self._keys[arn].state = state

    def forget(self, arn: str) -> None:
        """Delete a key at once, as AWS does a week later."""
        del self._keys[arn]

    def allow(self, access_key_id: str, *actions: str) -> None:
        """From now on this caller may do these, and nothing else."""
        self._allowed[access_key_id] = frozenset(actions)

    # ── answering ────────────────────────────────────────────────────────────────────────

    def answer(self, action: str, authorization: str, ask: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.calls.append(action)
        self._open.wait(HELD_S_MAX)
        try:
            caller, region = self._caller(action, authorization)
            return 200, self._act(action, caller, region, ask)
        except _Refused as refused:
            return 400, {"__type": refused.code, "message": str(refused)}

    def _caller(self, action: str, authorization: str) -> tuple[str, str]:
        found = re.match(r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([a-z0-9-]+)/kms/aws4_request,", authorization)
        if found is None:
            raise _Refused("MissingAuthenticationTokenException", "Missing Authentication Token")
        if action not in self._allowed.get(found[1], ALL):
            raise _Refused("AccessDeniedException", f"{found[1]} is not authorized to perform: kms:{action}")
        return found[1], found[2]

    def _act(self, action: str, caller: str, region: str, ask: dict[str, Any]) -> dict[str, Any]:
        context = ask.get("EncryptionContext", {})
        if action == "Decrypt":
            raw = self._unseal(ask["KeyId"], region, ask["CiphertextBlob"], context)
            return {"KeyId": ask["KeyId"], "Plaintext": base64.b64encode(raw).decode()}
        if action == "ReEncrypt":
            raw = self._unseal(
                ask["SourceKeyId"], region, ask["CiphertextBlob"], ask.get("SourceEncryptionContext", {})
            )
            destination = ask["DestinationKeyId"]
            blob = self._seal(destination, region, raw, ask.get("DestinationEncryptionContext", {}))
            return {"KeyId": destination, "SourceKeyId": ask["SourceKeyId"], "CiphertextBlob": blob}
        raw = base64.b64decode(ask["Plaintext"]) if action == "Encrypt" else os.urandom(32)
        answer = {"KeyId": ask["KeyId"], "CiphertextBlob": self._seal(ask["KeyId"], region, raw, context)}
        if action == "GenerateDataKey":
            answer["Plaintext"] = base64.b64encode(raw).decode()
        elif action not in ("Encrypt", "GenerateDataKeyWithoutPlaintext"):
            raise _Refused("UnknownOperationException", action)
        return answer

    def _key(self, arn: str, region: str) -> _Key:
        key = self._keys.get(arn)
        if key is None or arn.split(":")[3] != region:
            raise _Refused("NotFoundException", f"Key '{arn}' does not exist")
        if key.state == "Disabled":
            raise _Refused("DisabledException", f"{arn} is disabled.")
        if key.state != "Enabled":
            raise _Refused("KMSInvalidStateException", f"{arn} is pending deletion.")
        return key

    def _seal(self, arn: str, region: str, raw: bytes, context: dict[str, str]) -> str:
        nonce = os.urandom(12)
        sealed = AESGCM(self._key(arn, region).material).encrypt(nonce, raw, _aad(arn, context))
        return base64.b64encode(bytes((1, len(arn))) + arn.encode() + nonce + sealed).decode()

    def _unseal(self, arn: str, region: str, blob: str, context: dict[str, str]) -> bytes:
        key, data = self._key(arn, region), base64.b64decode(blob)
        if len(data) < 2 or data[0] != 1 or len(data) < 2 + data[1] + 28:
            raise _Refused("InvalidCiphertextException", "")
        made_by, rest = data[2 : 2 + data[1]], data[2 + data[1] :]
        if made_by.decode("ascii", "replace") not in self._keys:
            raise _Refused("InvalidCiphertextException", "")
        if made_by.decode() != arn:
            raise _Refused("IncorrectKeyException", "The key ID in the request does not identify the right key.")
        try:
            return AESGCM(key.material).decrypt(rest[:12], rest[12:], _aad(arn, context))
        except InvalidTag:
            raise _Refused("InvalidCiphertextException", "") from None


def _aad(arn: str, context: dict[str, str]) -> bytes:
    return json.dumps([arn, sorted(context.items())]).encode()
