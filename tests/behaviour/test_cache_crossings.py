"""Promise: a kept answer never reaches anybody but its tenant, and those of it among whom it is shared, whatever is
sent. Every answer of the provider says which it is; each may have been asked for in one way only."""

import json
import random
from collections import defaultdict
from itertools import count
from typing import NamedTuple

import pytest

from proxy.administration.virtual_keys import Wanted
from proxy.cache import fingerprint
from tests.gateway import plain_request, running_gateway
from tests.scripted_upstream import answer, scripted_upstream, stream

CALLS = 1_200
PATHS = ("/v1/chat/completions", "/v1/embeddings", "/v1/completions", "/v1/chat/completions?api=1")
HEADERS = (
    (b"openai-beta", (b"assistants=v2", b"x")),
    (b"accept-language", (b"de", b"en")),
    (b"content-type", (b"application/json", b"application/json; charset=utf-8")),
    (b"accept", (b"application/json", b"*/*")),
    (b"accept-encoding", (b"gzip", b"deflate")),  # without it, none is accepted
    (b"x-custom", (b"1", b"2")),
)
# What shapes no answer, and may differ between two calls that share one.
NOISE = ((b"user-agent", (b"a", b"b")), (b"x-request-id", (b"1", b"2", b"3")), (b"x-stainless-os", (b"Linux", b"Mac")))
FIELDS: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("temperature", (0, 0.5, "1")),
    ("max_tokens", (1, 2)),
    ("seed", (1, 2)),
    ("user", ("ada", "bob", "")),
    (
        "tools",
        ([], [{"type": "function", "function": {"name": "f"}}], [{"type": "function", "function": {"name": "g"}}]),
    ),
    ("response_format", ({"a": 1, "b": 2}, {"b": 2, "a": 1})),
    ("metadata", ({"a": "1"}, {"a": "2"})),
    ("x", (None, 1, [1], {"y": 1}, "\u0000", "\\u0061", "a")),
)


class Caller(NamedTuple):
    tenant: str
    user: str
    key_id: str
    token: bytes


def body_of(rng: random.Random, streams: bool) -> bytes:
    document: dict[str, object] = {"model": rng.choice(["m", "n"]), "input": "x"}
    document["messages"] = [{"role": "user", "content": rng.choice(["Hi", "hi", "Hi "])}]
    for name, values in FIELDS:
        if rng.random() < 0.15:
            document[name] = rng.choice(values)
    if streams and rng.random() < 0.5:
        document["stream"] = rng.random() < 0.5
    separators = rng.choice([(",", ":")] * 4 + [(", ", ": ")])
    return json.dumps(document, separators=separators, ensure_ascii=rng.random() < 0.9).encode()


def told_apart_by(caller: Caller, share: str, path: str, headers, body: bytes) -> tuple[object, ...]:
    """What two calls that share an answer must have in common, worked out without the gateway's own code."""
    whose = {"tenant": "", "user": caller.user, "virtual_key": caller.key_id}[share]
    document = json.loads(body)
    streams = document.pop("stream", None)
    text = body if streams is None else body.replace(b"true" if streams else b"false", b"")
    return (caller.tenant, whose, path, tuple(sorted(headers)), text, bool(streams))


@pytest.mark.parametrize("share", ["tenant", "user", "virtual_key"])
@pytest.mark.parametrize("collide", [False, True], ids=["", "every name is one of four"])
async def test_no_answer_crosses(share, collide, monkeypatch, tmp_path):
    if collide:  # as if somebody could make any two calls share a name
        name_of = fingerprint.name_of
        monkeypatch.setattr(fingerprint, "name_of", lambda told, secret: str(int(name_of(told, secret), 16) % 4))
    seed = random.randrange(1 << 32)
    rng, numbers = random.Random(seed), count()

    def script(received):
        number = next(numbers)
        if b'"stream":true' in received.body or b'"stream": true' in received.body:
            event = b'data: {"id":"answer-%d","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n' % number
            return stream(event, b"data: [DONE]\n\n")
        usage = b'"usage":{"prompt_tokens":1,"completion_tokens":1}'
        return answer(b'{"id":"answer-%d","choices":[],"data":[],%b}' % (number, usage))

    async with scripted_upstream(script) as upstream:
        cache = f'cache = {{ mode = "all", share = "{share}" }}'
        text = f"""
[providers.p]
base_url = "{upstream.base_url}"
[models.m]
deployments = [{{ provider = "p", model = "m" }}]
[models.n]
deployments = [{{ provider = "p", model = "n" }}]
[tenants.acme]
{cache}
[tenants.acm]
{cache}
"""
        async with running_gateway(text, folder=tmp_path) as gateway:
            desk = gateway.app._open_desk("test")
            callers = []
            for tenant in ("acme", "acm"):
                for user in ("ada", "bob"):
                    for _ in range(2):
                        issued = await desk.virtual_keys.issue(Wanted(tenant, user=user))
                        token = issued.token.reveal().encode()
                        callers.append(Caller(tenant, user, issued.virtual_key.id, token))
            seen: defaultdict[str, set[tuple[object, ...]]] = defaultdict(set)
            hits = 0
            pool = [(rng.choice(PATHS), body_of(rng, True)) for _ in range(12)]
            for _ in range(CALLS):
                caller = rng.choice(callers)
                path, body = rng.choice(pool) if rng.random() < 0.7 else (rng.choice(PATHS), body_of(rng, True))
                headers = [(name, rng.choice(values)) for name, values in HEADERS if rng.random() < 0.1]
                noise = [(name, rng.choice(values)) for name, values in NOISE if rng.random() < 0.3]
                sent = [(b"authorization", b"Bearer " + caller.token), *headers, *noise]
                status, head, got = await plain_request(gateway, "POST", path, body, sent)
                assert status == 200, (seed, got)
                hits += head.get(b"x-tollway-cache") == b"hit"
                number = got[got.index(b"answer-") : got.index(b'"', got.index(b"answer-"))].decode()
                seen[number].add(told_apart_by(caller, share, path, headers, body))
            crossed = {number: asked for number, asked in seen.items() if len(asked) > 1}
            assert not crossed, (seed, crossed)
            assert hits > (0 if collide else CALLS // 20), (seed, hits)
