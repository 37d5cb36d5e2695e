"""What is known of paths, targets and refusals."""

import pytest

from proxy.core.errors import InvalidPath
from proxy.dialects.openai import (
    OPERATION_NAMES,
    BodyKind,
    Shape,
    StreamEnd,
    classify,
    is_credential_error,
    is_json,
    parse_target,
)


@pytest.mark.parametrize(
    ("method", "path", "name", "body", "model_required", "stream_end"),
    [
        ("POST", "chat/completions", "chat_completions", BodyKind.JSON, True, StreamEnd.DONE),
        ("POST", "chat/completions/", "chat_completions", BodyKind.JSON, True, StreamEnd.DONE),
        ("POST", "Chat/COMPLETIONS", "chat_completions", BodyKind.JSON, True, StreamEnd.DONE),
        ("POST", "v1/chat/completions", "chat_completions", BodyKind.JSON, True, StreamEnd.DONE),
        ("GET", "chat/completions", "stored_chat_completions", BodyKind.NONE, False, None),
        ("POST", "chat/completions/chatcmpl-1", "stored_chat_completions", BodyKind.OTHER, False, None),
        ("POST", "responses", "responses", BodyKind.JSON, False, StreamEnd.RESPONSE),
        ("GET", "responses/resp_1", "response", BodyKind.NONE, False, StreamEnd.RESPONSE),
        ("POST", "responses/resp_1/cancel", "response", BodyKind.OTHER, False, StreamEnd.RESPONSE),
        ("POST", "responses/input_tokens", "responses_input_tokens", BodyKind.JSON, False, None),
        ("POST", "responses/compact", "responses_compact", BodyKind.JSON, False, None),
        ("POST", "embeddings", "embeddings", BodyKind.JSON, True, None),
        ("POST", "completions", "completions", BodyKind.JSON, True, StreamEnd.DONE),
        ("POST", "moderations", "moderations", BodyKind.JSON, False, None),
        ("POST", "images/generations", "images", BodyKind.JSON, False, None),
        ("POST", "images/edits", "images", BodyKind.FORM, False, None),
        ("POST", "audio/speech", "audio_speech", BodyKind.JSON, True, None),
        ("POST", "audio/transcriptions", "audio_transcriptions", BodyKind.FORM, False, None),
        ("POST", "messages", "messages", BodyKind.JSON, True, StreamEnd.MESSAGE_STOP),
        ("POST", "messages/count_tokens", "messages_count_tokens", BodyKind.JSON, True, None),
        ("POST", "messages/batches", "message_batches", BodyKind.OTHER, False, None),
        ("GET", "models", "models", BodyKind.NONE, False, None),
        ("GET", "models/gpt-5", "model", BodyKind.NONE, False, None),
        ("GET", "models/meta-llama/Llama-4", "model", BodyKind.NONE, False, None),
        ("DELETE", "models/ft:gpt-5", "other", BodyKind.NONE, False, None),
        ("POST", "files", "files", BodyKind.OTHER, False, None),
        ("DELETE", "vector_stores/vs_1", "vector_stores", BodyKind.NONE, False, None),
        ("POST", "rerank", "other", BodyKind.OTHER, False, None),
        ("GET", "", "other", BodyKind.NONE, False, None),
    ],
)
def test_classify(
    method: str, path: str, name: str, body: BodyKind, model_required: bool, stream_end: StreamEnd | None
) -> None:
    operation = classify(method, tuple(path.split("/")))
    assert (operation.name, operation.body) == (name, body)
    assert (operation.model_required, operation.stream_end) == (model_required, stream_end)
    assert operation.name in OPERATION_NAMES
    assert not operation.admin
    assert operation.gateway_served is (name in ("models", "model"))


def test_a_target_without_segments_is_other() -> None:
    assert classify("GET", ()).name == "other"


@pytest.mark.parametrize(
    "path",
    ["organization/usage", "Organization", "projects/p/api_keys", "v1/v1/PROJECTS", "organizations/me", "projects "],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_administration_is_recognised(method: str, path: str) -> None:
    assert classify(method, tuple(path.split("/"))).admin


def test_shapes() -> None:
    for path in ("messages", "messages/count_tokens", "messages/batches"):
        assert classify("POST", tuple(path.split("/"))).base_shape is Shape.ANTHROPIC
    assert classify("POST", ("chat", "completions")).base_shape is Shape.OPENAI


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/chat/completions", ("chat", "completions")),
        ("/v1/chat/completions/", ("v1", "chat", "completions", "")),
        ("/", ("",)),
        ("/models/gpt-5.1", ("models", "gpt-5.1")),
        ("/models/ft%3Agpt-5%3Aacme", ("models", "ft:gpt-5:acme")),
        ("/models/meta%2FLlama-4", ("models", "meta/Llama-4")),
        ("/v1/models/meta%2fLlama-4", ("v1", "models", "meta/Llama-4")),
        ("/files/caf%C3%A9", ("files", "café")),
        ("/files/100%25", ("files", "100%")),
        ("/files/..name", ("files", "..name")),
        ("/files/...", ("files", "...")),
    ],
)
def test_parse_target(path: str, expected: tuple[str, ...]) -> None:
    assert parse_target(path) == expected


@pytest.mark.parametrize(
    "path",
    [
        "",
        "chat",
        "*",
        "/models/../files",
        "/models/.",
        "/..",
        "/models/%2e%2e/files",
        "/models/.%2E/files",
        "/models/..;x/files",
        "/models/..%2ffiles",
        "/models/a%2F..%2Ffiles",
        "/models/a%2F%2Fb",
        "/files/a%2Fb",
        "/chat%2Fcompletions",
        "/models%2Fgpt",
        "//models",
        "/v1//models",
        "/models//",
        "/models/a\\b",
        "/models/a%5Cb",
        "/models/a%00",
        "/models/a%0d%0a",
        "/models/a%7F",
        "/models/a%C2%85",
        "/models/a\tb",
        "/models/a b",
        "/models/é",
        "/models/%252e%252e",
        "/models/a%252Fb",
        "/models/%2",
        "/models/%zz",
        "/models/%FF",
        "/models/%C0%AE",
        "/models#x",
        "/models?x",
    ],
)
def test_a_path_that_two_readers_could_understand_differently_is_refused(path: str) -> None:
    with pytest.raises(InvalidPath):
        parse_target(path)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, b"", True),
        (401, b'{"error":{"message":"anything at all"}}', True),
        (403, b'{"error":{"message":"Your API key does not have permission","type":"permission_error"}}', True),
        (403, b'{"error":{"message":"Incorrect API key provided: sk-proj-****abcd"}}', True),
        (403, b'{"error":{"message":"Project `proj_1` does not have access to model `m`"}}', True),
        (403, b'{"error":{"message":"Your organization must be verified', True),  # cut off
        (403, b"<html>Forbidden</html>", True),  # not clearly about something else
        (403, b"", True),
        (403, b"\xff\xfe\x00", True),
        (
            403,
            b'{"error":{"code":"unsupported_country_region_territory","message":"Country, region, or territory '
            b'not supported"}}',
            False,
        ),
        (403, b'{"error":{"message":"Your input was flagged","code":403,"metadata":{"reasons":["violence"]}}}', False),
        (403, b'{"error":{"message":"Content violates usage guidelines."}}', False),
        (403, b'{"error":{"message":"Content violates usage guidelines. API key sk-abc"}}', True),
        (400, b'{"error":{"message":"API key"}}', False),
        (404, b"", False),
        (200, b"api key", False),
    ],
)
def test_is_credential_error(status: int, body: bytes, expected: bool) -> None:
    assert is_credential_error(status, body) is expected


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/json", True),
        (b"Application/JSON; charset=utf-8", True),
        (b"application/problem+json", True),
        (b"text/event-stream", False),
        (b"application/jsonl", False),
        (b"", False),
        (None, False),
    ],
)
def test_is_json(content_type: bytes | None, expected: bool) -> None:
    assert is_json(content_type) is expected
