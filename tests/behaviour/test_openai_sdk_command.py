"""Promise: the command that a user types serves the synchronous SDK with the simulated provider
and virtual keys, its faults included."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from proxy.app import open_stores
from proxy.cli.configuration import read_configuration
from proxy.identity.virtual_key import TOKEN_RANDOM_BYTES, mint
from tests.command import Command
from tests.openai_sdk import sync_sdk

HELLO: Any = [{"role": "user", "content": "Hello there"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TEXT = """
[auth]
mode = "virtual-keys"
default_provider = "simulated"
[providers.simulated]
transport = "simulated"
timeouts_s = { idle = 0.5 }
[models.house]
deployments = [{ provider = "simulated", model = "simulated" }]
[models.secret]
deployments = [{ provider = "simulated", model = "simulated" }]
tenants = ["others"]
"""


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> Iterator[Command]:
    """One gateway for the whole module, as an operator would start it."""
    with Command(tmp_path_factory.mktemp("gateway"), TEXT).serving() as running:
        yield running


@pytest.fixture(scope="module")
def token(command) -> str:
    return command.run("keys", "issue", "--tenant", "acme", "--user", "ada")["virtual_key"]


@pytest.fixture
def client(command, token) -> Iterator[openai.OpenAI]:
    with sync_sdk(f"{command.url}/v1", api_key=token) as sdk:
        yield sdk


def rows_of(command: Command, tenant_id: str, run_ids: set[str]) -> list[dict[str, Any]]:
    """These runs' rows, read beside the running gateway, which writes them within moments."""

    async def read() -> list[dict[str, Any]]:
        async with open_stores(read_configuration(str(command.path), {}).settings) as stores:
            return [json.loads(data) for _, data in await stores.ledger.read(tenant_id)]

    deadline_s = time.monotonic() + 10.0
    while time.monotonic() < deadline_s:
        rows = [row for row in asyncio.run(read()) if row["run_id"] in run_ids]
        if len(rows) == len(run_ids):
            return rows
        time.sleep(0.02)
    raise AssertionError("the rows were not written in time")


# ── answers ──────────────────────────────────────────────────────────────────────────────


def test_chat_plain_and_streamed_say_the_same(client):
    plain = client.chat.completions.create(model="house", messages=HELLO)
    coming = client.chat.completions.create(
        model="house", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    with coming:
        chunks = list(coming)
    text = plain.choices[0].message.content
    assert HELLO[0]["content"] in text
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert chunks[-1].usage == plain.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_the_streams_context_manager(client):
    with client.chat.completions.stream(model="house", messages=HELLO) as coming:
        said = "".join(event.delta for event in coming if event.type == "content.delta")
        final = coming.get_final_completion()
    assert HELLO[0]["content"] in said == final.choices[0].message.content


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_tools_in_two_rounds(client, streamed):
    def a_round(turns: list[Any]) -> Any:
        asked: dict[str, Any] = {"model": "house", "messages": turns, "tools": [WEATHER]}
        if not streamed:
            return client.chat.completions.create(**asked).choices[0]
        with client.chat.completions.stream(**asked) as coming:
            return coming.get_final_completion().choices[0]

    ask = {"role": "user", "content": "What is the weather in Paris?"}
    first = a_round([ask])
    (call,) = first.message.tool_calls
    assert (first.finish_reason, call.function.name) == ("tool_calls", "get_weather")
    assert set(json.loads(call.function.arguments)) == {"city"}
    told = {"role": "tool", "tool_call_id": call.id, "content": "19 °C"}
    second = a_round([ask, first.message.model_dump(exclude_none=True), told])
    assert (second.finish_reason, second.message.tool_calls) == ("stop", None)


def test_responses_plain_and_streamed_say_the_same(client):
    plain = client.responses.create(model="house", input="Hello there")
    with client.responses.stream(model="house", input="Hello there") as coming:
        kinds = [event.type for event in coming]
        final = coming.get_final_response()
    assert "Hello there" in final.output_text == plain.output_text
    assert final.usage == plain.usage
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")


def test_embeddings(client):
    answer = client.embeddings.create(model="simulated-embedding", input=["one", "two"], dimensions=8)
    assert [len(each.embedding) for each in answer.data] == [8, 8]
    assert answer.data[0].embedding != answer.data[1].embedding


def test_models_are_the_callers_own(client):
    assert [model.id for model in client.models.list()] == ["house"]
    assert client.models.retrieve("house").owned_by == "tollway"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("secret")
    assert caught.value.code == "model_not_found"


def test_who_called_and_what_it_used_is_in_the_ledger(command, token, client):
    raw = client.chat.completions.with_raw_response.create(
        model="house", messages=HELLO, extra_headers={"x-tollway-feature": "search", "x-tollway-prompt": "greet@3"}
    )
    issued = command.run("keys", "list", "--tenant", "acme")["virtual_keys"]
    (row,) = rows_of(command, "acme", {raw.headers["x-tollway-run-id"]})
    assert (row["tenant"], row["user"], row["feature"]) == ("acme", "ada", "search")
    assert (row["prompt_id"], row["prompt_version"]) == ("greet", "3")
    assert row["virtual_key_id"] in {each["id"] for each in issued}
    usage = raw.parse().usage
    assert (row["input_tokens"], row["output_tokens"]) == (usage.prompt_tokens, usage.completion_tokens)
    assert raw.headers["x-tollway-model"] == "simulated/simulated"
    assert raw.headers["x-request-id"].startswith("req_")
    assert "openai-organization" not in raw.headers  # whose account paid is not the caller's business
    assert token not in json.dumps(row)


# ── faults ───────────────────────────────────────────────────────────────────────────────

FAULTS = {
    "400": openai.BadRequestError,
    "408": openai.APIStatusError,
    "409": openai.ConflictError,
    "429": openai.RateLimitError,
    "500": openai.InternalServerError,
    "503": openai.InternalServerError,
    "529": openai.InternalServerError,
    "drop": openai.InternalServerError,
    "malformed": openai.InternalServerError,
}


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(("fault", "expected"), FAULTS.items(), ids=FAULTS)
def test_a_fault_of_the_provider_is_its_own_exception(client, fault, expected, streamed):
    with pytest.raises(expected) as caught:
        # Each has a model of its own: what throttles one call is left alone for a while.
        model = f"simulated-{fault}-{3 if streamed else 2}chunks"
        client.chat.completions.create(model=model, messages=HELLO, stream=streamed)
    assert type(caught.value) is expected
    assert caught.value.status_code == (int(fault) if fault.isdigit() else 502)


@pytest.mark.parametrize("fault", ["reset", "truncated", "stall"])
def test_a_stream_that_is_cut_raises(client, fault):
    seen = []
    with pytest.raises(openai.APIConnectionError):
        for chunk in client.chat.completions.create(model=f"simulated-{fault}", messages=HELLO, stream=True):
            seen.append(chunk)
    assert seen  # a part came


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_patience_that_ends(command, client, streamed):
    abandoned = 'tollway_attempts_total{deployment="simulated",outcome="abandoned"}'
    before = command.metric(abandoned)
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="simulated-hang", messages=HELLO, stream=streamed, timeout=0.5)
    deadline_s = time.monotonic() + 10.0
    while command.metric(abandoned) == before and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert command.metric(abandoned) == before + 1  # let go, and not after the provider's 60 s


# ── virtual keys ─────────────────────────────────────────────────────────────────────────


def test_a_key_is_for_its_models_alone(command):
    issued = command.run("keys", "issue", "--tenant", "acme", "--models", "house")
    with sync_sdk(f"{command.url}/v1", api_key=issued["virtual_key"]) as client:
        assert client.chat.completions.create(model="house", messages=HELLO).model == "simulated"
        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="simulated-slow", messages=HELLO)
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.PermissionDeniedError) as nameless:
            client.moderations.create(input="Hello")
        assert nameless.value.code == "endpoint_not_allowed"


KEYS_OF_NOBODY = {
    "made up": mint(bytes(TOKEN_RANDOM_BYTES)).reveal(),
    "a provider's": "sk-proj-0123456789",
    "a word": "hunter2",
}


@pytest.mark.parametrize("token", KEYS_OF_NOBODY.values(), ids=KEYS_OF_NOBODY)
def test_a_key_of_nobody_is_refused_once_and_not_shown(command, token):
    refused = 'tollway_auth_failures_total{code="invalid_api_key"}'
    before = command.metric(refused)
    with sync_sdk(f"{command.url}/v1", api_key=token, max_retries=2) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            client.chat.completions.create(model="house", messages=HELLO)
    assert caught.value.code == "invalid_api_key"
    assert token not in str(caught.value.body)
    assert command.metric(refused) == before + 1


def test_a_revoked_key_is_refused_and_its_tenants_others_are_not(command, token):
    issued = command.run("keys", "issue", "--tenant", "acme")
    revoked = command.run("keys", "revoke", issued["id"])
    assert revoked["state"] == "revoked"
    with sync_sdk(f"{command.url}/v1", api_key=issued["virtual_key"]) as client:
        with pytest.raises(openai.AuthenticationError, match="revoked") as caught:
            client.chat.completions.create(model="house", messages=HELLO)
        assert caught.value.code == "invalid_api_key"
        own = client.with_options(api_key=token)
        assert own.chat.completions.create(model="house", messages=HELLO).model == "simulated"


def test_keys_outlive_the_process_and_so_does_their_end(tmp_path):
    command = Command(tmp_path, TEXT)
    kept, ended = (command.run("keys", "issue", "--tenant", "acme") for _ in range(2))
    with command.serving(), sync_sdk(f"{command.url}/v1") as client:
        for issued in (kept, ended):
            assert client.with_options(api_key=issued["virtual_key"]).models.list().data
        command.run("keys", "revoke", ended["id"])
    with command.serving(), sync_sdk(f"{command.url}/v1") as client:
        assert client.with_options(api_key=kept["virtual_key"]).models.list().data
        with pytest.raises(openai.AuthenticationError, match="revoked"):
            client.with_options(api_key=ended["virtual_key"]).models.list()
    assert [line["status"] for line in command.log_lines()] == [200, 401]
    assert kept["virtual_key"] not in (tmp_path / "stdout.txt").read_text() + (tmp_path / "stderr.txt").read_text()
