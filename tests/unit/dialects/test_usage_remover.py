"""What asking for usage puts into a stream is taken out again: the bytes are as if nobody had.

Each style writes the same documents twice, with what asking causes and without. The expected
bytes come from the writer, never from the remover.
"""

import hashlib
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.types import Usage
from proxy.dialects import usage_remover
from proxy.dialects.openai import classify
from proxy.dialects.usage import UsageTap
from proxy.dialects.usage_remover import UsageRemover, is_event_stream
from proxy.simulated.script import script
from proxy.simulated.steps import Stamp

CHAT = classify("POST", ("chat", "completions"))
SSE = b"text/event-stream; charset=utf-8"
USAGE = {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}
SEED = 20_261_125


def restored(chunks: Iterable[bytes], *, nulls_are_ours: bool = True) -> bytes:
    remover = UsageRemover(nulls_are_ours=nulls_are_ours)
    return b"".join([*map(remover.feed, chunks), remover.close()])


def cut(stream: bytes, *cuts: int) -> list[bytes]:
    return [stream[start:end] for start, end in zip((0, *cuts), (*cuts, len(stream)), strict=True)]


def sha256(stream: bytes) -> str:
    return hashlib.sha256(stream).hexdigest()


# ── styles of writing ────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Style:
    """How one upstream writes its events."""

    separators: tuple[str, str] = (",", ":")
    indent: int | None = None  # more than one line of data
    ascii_only: bool = False
    line_end: bytes = b"\n"
    prefix: bytes = b"data: "
    usage_at: int | None = None  # among the members; None: the last
    before: bytes = b""  # lines before each event's data
    behind: bytes = b""  # and behind it
    between: bytes = b""  # blocks of their own between events
    start: bytes = b""
    writes_null: bool = True  # vLLM leaves it out

    def write(self, documents: list[Any], *, asked: bool) -> bytes:
        """The stream. What is no dictionary is written as it is."""
        out = [self.start]
        for document in documents:
            if isinstance(document, dict):
                is_extra = document.get("choices") == [] and "usage" in document
                if is_extra and not asked:
                    # What has nothing to do with it comes all the same.
                    own = (self.before + self.behind).splitlines(keepends=True)
                    out += [*(line for line in own if line.startswith(b":")), self.between]
                    continue
                if asked and "usage" not in document and self.writes_null:
                    members = list(document.items())
                    members.insert(len(members) if self.usage_at is None else self.usage_at, ("usage", None))
                    document = dict(members)
                document = json.dumps(
                    document, separators=self.separators, indent=self.indent, ensure_ascii=self.ascii_only
                )
            lines = b"".join(self.prefix + line + self.line_end for line in document.encode().split(b"\n"))
            out += [self.before, lines, self.behind, self.line_end, self.between]
        return b"".join(out)


STYLES = {
    "openai": Style(),
    "python": Style(separators=(", ", ": ")),
    "python, in ASCII": Style(separators=(", ", ": "), ascii_only=True),
    "space before": Style(separators=(" ,\t", " : ")),
    "no space behind the colon": Style(prefix=b"data:"),
    "CRLF": Style(line_end=b"\r\n"),
    "CR": Style(line_end=b"\r"),
    "usage first": Style(usage_at=0),
    "usage first, spaced": Style(usage_at=0, separators=(", ", ": ")),
    "usage second": Style(usage_at=1, separators=(", ", ": ")),
    "indented": Style(indent=2),
    "indented, usage first": Style(indent=2, usage_at=0, line_end=b"\r\n"),
    "indented, usage second": Style(indent=1, usage_at=1, line_end=b"\r", prefix=b"data:"),
    "byte order mark": Style(start=b"\xef\xbb\xbf"),
    "byte order mark, indented": Style(start=b"\xef\xbb\xbf", indent=1),
    "comments between": Style(between=b': keep-alive ,"usage":null}\n\n'),
    "comments at the beginning": Style(start=b": OPENROUTER PROCESSING\n\n: \n\n"),
    "blank lines": Style(between=b"\n", start=b"\n\n\n"),
    "blank lines in CRLF": Style(between=b"\r\n\r\n", start=b"\r\n", line_end=b"\r\n"),
    "pings": Style(between=b"event: ping\ndata: {}\n\n"),
    "named events": Style(before=b"event: message\n"),
    "ids and retries": Style(before=b'id: 7,"usage":null}\nretry: 9\n', behind=b"x-unknown: 1\ndatum\n"),
    "no nulls": Style(writes_null=False),
}

FRAME: dict[str, Any] = {"id": "c-1", "tier": "x"}


def chunk(delta: dict[str, Any], finish_reason: str | None = None, **rest: Any) -> dict[str, Any]:
    choice = {"delta": delta, "finish_reason": finish_reason}
    return {**FRAME, "choices": [choice], **rest}


AZURE = {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
DOCUMENTS: list[Any] = [
    AZURE,
    chunk({"content": ""}, obfuscation='q"{\\'),
    chunk({"content": 'say ,"usage":null} \n\n data: "finish_reason":"stop" \u2028 né 🙂'}, obfuscation="aB3"),
    chunk({"content": ',"usage":null', "usage": None}, x_groq={"usage": None, "a": [{"usage": None}]}),
    chunk({"tool_calls": [{"arguments": '{"usage":null,"choices":[]}'}]}),
    chunk({}, "stop"),
    {**FRAME, "choices": [], "usage": USAGE},
    "[DONE]",
]


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_a_stream_is_as_if_nobody_had_asked_wherever_it_is_cut(style: Style) -> None:
    asked, unasked = style.write(DOCUMENTS, asked=True), style.write(DOCUMENTS, asked=False)
    assert asked != unasked
    expected = sha256(unasked)
    assert sha256(restored([asked])) == expected
    assert sha256(restored(asked[i : i + 1] for i in range(len(asked)))) == expected
    for at in range(len(asked) + 1):
        assert sha256(restored(cut(asked, at))) == expected, at
    chance = random.Random(SEED)
    for _ in range(20):
        cuts = sorted(chance.randrange(len(asked) + 1) for _ in range(chance.randrange(2, 12)))
        assert sha256(restored(cut(asked, *cuts))) == expected, cuts


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_a_stream_that_nothing_was_added_to_is_untouched(style: Style) -> None:
    """An upstream that ignores the flag."""
    unasked = style.write(DOCUMENTS, asked=False)
    for at in range(0, len(unasked), 19):
        assert restored(cut(unasked, at)) == unasked


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_the_tap_hears_the_usage_that_the_caller_does_not_get(style: Style) -> None:
    asked, unasked = style.write(DOCUMENTS, asked=True), style.write(DOCUMENTS, asked=False)
    for at in range(0, len(asked), 37):
        tap, remover, got = UsageTap(CHAT, SSE, None), UsageRemover(), b""
        for piece in cut(asked, at):
            tap.feed(piece)
            got += remover.feed(piece)
        got += remover.close()
        tap.close()
        assert tap.usage == Usage(input_tokens=19, output_tokens=10)
        assert tap.saw_end is True
        assert remover.event_removed
        assert got == unasked
    deaf = UsageTap(CHAT, SSE, None)
    deaf.feed(unasked)
    deaf.close()
    assert deaf.usage is None, "behind the remover there is nothing to hear"


@pytest.mark.parametrize("style", [STYLES["openai"], STYLES["CRLF"], STYLES["CR"], STYLES["indented"]])
def test_an_event_comes_out_with_its_last_byte(style: Style) -> None:
    due: list[tuple[int, int]] = []  # once so many bytes are in, so many are out
    asked = unasked = b""
    for document in DOCUMENTS:
        asked += style.write([document], asked=True)
        unasked += style.write([document], asked=False)
        due.append((len(asked), len(unasked)))
    assert asked == style.write(DOCUMENTS, asked=True)
    if style.line_end == b"\r\n":  # a line of CR LF is over with its CR
        due = [(fed_bytes - 1, out_bytes - 1) for fed_bytes, out_bytes in due[:6]]
    remover = UsageRemover()
    out_bytes = 0
    at_fed_bytes = dict(due)
    for fed_bytes in range(1, len(asked) + 1):
        out_bytes += len(remover.feed(asked[fed_bytes - 1 : fed_bytes]))
        if fed_bytes in at_fed_bytes:
            assert out_bytes == at_fed_bytes[fed_bytes]


# ── what others send unasked ─────────────────────────────────────────────────────────────

DONE = b"data: [DONE]\n\n"
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
EXTRA = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'


@pytest.mark.parametrize(
    "stream",
    [
        # Gemini: on every chunk, cumulative.
        b'data: {"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}\n\n' + DONE,
        # Mistral, DeepSeek: with the finish.
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}\n\n' + DONE,
        # Azure: no usage beside the empty choices.
        b'data: {"choices":[],"prompt_filter_results":[]}\n\n' + FINISH + b'data: {"choices":[],"x":{"usage":{}}}\n\n',
        EXTRA + b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n' + DONE,  # before any finish
        b'data: {"choices":[{"delta":{},"finish_reason":""}]}\n\n' + EXTRA,  # "" is no finish
        FINISH + b'data: {"choices":[],"usage":{"a":1},"error":{"message":"x"}}\n\n',
        FINISH + b'data: {"choices":[],"usage":[]}\n\n' + b'data: {"choices":[],"usage":1}\n\n',
        FINISH + b'data: [{"choices":[],"usage":{}}]\n\ndata: [{"a":1,"usage":null}]\n\n',
        FINISH + b'data: {"choices":[],"usage":{"a":1}\n\ndata: {"usage":null\n\ndata: "usage"\n\n',  # no JSON
        b'event: error\ndata: {"error":{"message":"usage","usage":null}}\n\n',
        b'{"error":{"message":"no stream at all"},"usage":null}\n\n',
        b'data: {"a":1,\n: a comment amid it\ndata: "usage":null}\n\n',
        b'data\ndata\n\ndata: \n\nusage\n\n: "usage":null\n\n',
        b"",
    ],
)
def test_what_was_not_caused_stays(stream: bytes) -> None:
    for at in range(len(stream) + 1):
        assert restored(cut(stream, at)) == stream


def test_one_event_and_no_more_is_taken_out() -> None:
    assert restored([FINISH + EXTRA + EXTRA + DONE]) == FINISH + EXTRA + DONE


@pytest.mark.parametrize("reasons", [b'null},{"finish_reason":"stop"', b'"stop"},{"finish_reason":null', b' "length"'])
def test_any_choice_may_be_the_one_that_finished(reasons: bytes) -> None:
    finish = b'data: {"choices":[{"finish_reason":%b}]}\n\n' % reasons
    assert restored([finish, EXTRA, DONE]) == finish + DONE


def test_nulls_that_an_upstream_writes_anyway_can_be_kept() -> None:
    null = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}],"usage":null}\n\n'
    indented = b'data: {"a":1,\ndata:  "usage":null}\n\n'
    stream = null + indented + FINISH + EXTRA + DONE
    for at in range(len(stream) + 1):
        assert restored(cut(stream, at), nulls_are_ours=False) == null + indented + FINISH + DONE


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_a_comment_in_the_event_that_is_taken_out_stays(line_end: bytes) -> None:
    def lines(*texts: bytes) -> bytes:
        return b"".join(text + line_end for text in texts)

    extra = lines(b": ping", b"id: 3", EXTRA.strip(), b":", b"")
    stream = FINISH + extra + DONE
    for at in range(len(stream) + 1):
        assert restored(cut(stream, at)) == FINISH + lines(b": ping", b":") + DONE


def test_a_line_feed_goes_only_with_the_carriage_return_that_went() -> None:
    finish, extra, done = (event.replace(b"\n", b"\r") for event in (FINISH, EXTRA, DONE))
    assert restored([finish + extra, b"\n: x\n\n"]) == finish + b": x\n\n"  # one CRLF, cut in two
    assert restored([finish + extra, b"", b"\n", b"\n"]) == finish + b"\n"
    assert restored([finish + extra + done, b"\n: x\n\n"]) == finish + done + b"\n: x\n\n"
    assert restored([finish + extra + b": x", b"\n\n"]) == finish + b": x\n\n"


def test_a_stream_that_ends_without_its_last_empty_line() -> None:
    null = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":null}'
    finish = null.replace(b',"usage":null', b"")
    assert restored([null]) == finish
    assert restored([null, b"\n"]) == finish + b"\n"
    assert restored([FINISH + EXTRA.strip()]) == FINISH
    for length in range(len(EXTRA) - 3):  # cut off: nobody can tell what it was to be
        assert restored([FINISH + EXTRA[:length]]) == FINISH + EXTRA[:length]
    remover = UsageRemover()
    assert remover.feed(b"data: x") == b""
    assert remover.close() == b"data: x"
    assert remover.close() == b""


# ── bounds ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("chunk_bytes", [1, 7, 64, 1_000])
def test_an_event_that_is_too_large_passes_as_it_is_and_the_next_does_not(
    line_end: bytes, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_remover, "EVENT_BYTES_MAX", 200)
    null = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}],"usage":null}' + 2 * line_end
    large = null.replace(b'"a"', b'"' + 2_000 * b"a" + b'"')
    plain = null.replace(b',"usage":null', b"")
    extra = EXTRA.strip() + 2 * line_end
    stream = null + large + null + extra + null
    remover = UsageRemover()
    got = b""
    for start in range(0, len(stream), chunk_bytes):
        got += remover.feed(stream[start : start + chunk_bytes])
        assert len(remover._held) <= 200
    assert remover.overflowed
    # What nobody looked at may have held the finish.
    assert got + remover.close() == plain + large + plain + plain


def test_the_rest_of_an_event_that_is_too_large_is_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_remover, "EVENT_BYTES_MAX", 20)
    null = b'data: {"a":1,"usage":null}\n\n'
    assert restored([b'data: {"b":"' + 20 * b"b", null, null]) == (
        b'data: {"b":"' + 20 * b"b" + null + b'data: {"a":1}\n\n'
    )


def test_events_within_the_bound_do_not_overflow() -> None:
    large = b'data: {"choices":[{"delta":{"content":"%b"}}],"usage":null}\n\n' % (250_000 * b"a")
    remover = UsageRemover()
    got = b"".join(remover.feed(piece) for piece in cut(large * 3, 100_000, 300_000, 500_000))
    assert got == large.replace(b',"usage":null', b"") * 3
    assert not remover.overflowed


# ── the simulated provider, and generated streams ────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {}),
        ("/v1/chat/completions", {"n": 3}),
        (
            "/v1/chat/completions",
            {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"},
        ),
        ("/v1/chat/completions", {"max_completion_tokens": 2}),
        ("/v1/completions", {"prompt": "Once"}),
        ("/v1/completions", {"prompt": "Once", "n": 2}),
    ],
)
def test_the_simulated_providers_stream(path: str, fields: dict[str, Any]) -> None:
    body = {"model": "simulated", "messages": [{"role": "user", "content": '"usage":null'}], "stream": True, **fields}

    def stream(**more: Any) -> list[bytes]:
        stamp = Stamp(at_s=1_700_000_000, unique="0123456789abcdef0123456789abcdef")
        return [step.chunk for step in script("POST", path, json.dumps({**body, **more}).encode(), stamp).steps]

    unasked = stream()
    asked = stream(stream_options={"include_usage": True})
    assert len(asked) == len(unasked) + 1
    assert stream(stream_options={"include_usage": False}) == unasked
    remover = UsageRemover()
    assert [piece for chunk in asked if (piece := remover.feed(chunk))] == unasked
    assert sha256(restored([b"".join(asked)])) == sha256(b"".join(unasked))


NAMES = st.sampled_from(["id", "usage", "choices", "finish_reason", 'a"b', "é"]) | st.text(max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([',"usage":null', '"usage":{}}', "[]", "\n\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
# Of the outermost members only choices and usage mean anything; `error` would be the provider's own.
RESTS = st.dictionaries(NAMES.filter(lambda name: name not in ("usage", "choices", "error")), VALUES, max_size=3)
CHUNKS = st.builds(
    lambda content, rest: {**rest, **chunk({"content": content, **rest})}, VALUES | TEXTS, RESTS
) | st.builds(lambda rest: {"choices": [], **rest}, RESTS)
LINES = st.sampled_from([b"", b": ping\n", b'event: x\nid: "usage":null\n'])
WRITERS: st.SearchStrategy[Style] = st.builds(
    Style,
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" , ", " :")]),
    indent=st.sampled_from([None, None, 1]),
    ascii_only=st.booleans(),
    line_end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    prefix=st.sampled_from([b"data: ", b"data:"]),
    usage_at=st.sampled_from([None, 0, 1, 2]),
    before=LINES,
    behind=LINES,
    between=st.sampled_from([b"", b": ping\n\n", b"\n", b"\r\n"]),
    start=st.sampled_from([b"", b"\xef\xbb\xbf", b"\n"]),
    writes_null=st.booleans(),
).filter(lambda style: style.line_end + style.between != b"\r\n")  # a CR and an LF are one line end


@settings(max_examples=150, deadline=None)
@given(st.lists(CHUNKS, max_size=4), RESTS, WRITERS, st.data())
def test_generated_streams(chunks: list[Any], rest: dict[str, Any], style: Style, data: st.DataObject) -> None:
    documents = [*chunks, chunk({}, "stop"), {**rest, "choices": [], "usage": USAGE}, "[DONE]"]
    asked = style.write(documents, asked=True)
    cuts = data.draw(st.lists(st.integers(0, len(asked)), max_size=10).map(sorted))
    assert restored(cut(asked, *cuts)) == style.write(documents, asked=False)


ODD_EVENTS = st.sampled_from(
    [
        FINISH,
        EXTRA,
        DONE,
        b'data: {"choices":[{"finish_reason":null}],"usage":null}\n\n',
        b'data: {"choices":[{"finish_reason":null}],"usage":null,"obfuscation":"aB","n":-1.5e3}\n\n',
        b'data: {"choices":[{"finish_reason":"stop"},{"finish_reason":null}],"usage":null}\n\n',
        b'data:{"a":1 ,"usage":null}\n\n',
        b'data:{"a":1\t,"usage":null}\n\n',
        b'data: {"a":1,"usage":null,"usage":null}\n\n',
        b'data: {"a":{"usage":null}}\n\n',
        b'data: {"a":{"b":1,"usage":null}}\n\n',
        b'data: {"a":1,"usage":null} \n\n',
        b'data: [{"a":1,"usage":null}]\n\n',
        b'data: {"a":1,"usage":null\n\n',
        b': x ,"usage":null}\n\n',
        b'x: ,"usage":null}\n\n',
        b'event: x\ndata: {"a":1,"usage":null}\n\n',
        b'data: {"a":1,\ndata: "b":2,"usage":null}\n\n',
        b'data: {"a":1}\r\n\r\n',
        b"\n",
        b"\n\n",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(ODD_EVENTS, max_size=6), st.booleans())
def test_many_events_at_once_are_restored_as_each_by_itself(events: list[bytes], nulls_are_ours: bool) -> None:
    stream = b"".join(events)
    by_byte = restored(cut(stream, *range(1, len(stream))), nulls_are_ours=nulls_are_ours)
    assert restored([stream], nulls_are_ours=nulls_are_ours) == by_byte
    assert restored(events, nulls_are_ours=nulls_are_ours) == by_byte


@pytest.mark.parametrize(
    ("content_type", "coding", "expected"),
    [
        (SSE, None, True),
        (b"Text/Event-Stream", b"identity", True),
        (SSE, b" Identity ", True),
        (SSE, b"", True),
        (SSE, b"gzip", False),
        (b"application/json", None, False),
        (None, None, False),
    ],
)
def test_what_can_be_restored(content_type: bytes | None, coding: bytes | None, expected: bool) -> None:
    assert is_event_stream(content_type, coding) is expected
