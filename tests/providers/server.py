"""Starts one simulated provider on a free port of the loopback."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.providers import anthropic_wire, openai_wire
from tests.providers.wire import SECRET
from tests.scripted_upstream import Received, ScriptedUpstream, Step, scripted_upstream

# By the gateway's name of the dialect: what the provider's SDK, and the gateway, has for a base URL.
_BASE_PATHS = {
    "anthropic": "",
    "azure": "/openai/v1",
    "azure-deployments": "/openai",
    "bedrock": "/openai/v1",
    "bedrock-anthropic": "/anthropic",
    "gemini": "/v1beta/openai",
    "openai": "/v1",
    "openai-compatible": "/v1",
}
DIALECTS = tuple(_BASE_PATHS)
MODELS = {
    "anthropic": "claude-haiku-4-5",
    "azure": "gpt-5-mini",
    "azure-deployments": openai_wire.DEPLOYMENT,
    "bedrock": "openai.gpt-oss-120b",
    "bedrock-anthropic": "anthropic.claude-opus-4-8",
    "gemini": "gemini-3.8-flash",
    "openai": "gpt-5-mini",
    "openai-compatible": "llama-4",
}
"""A model that each of them has."""
TRUSTING = '[auth]\nmode = "trusted-headers"\n'


@dataclass
class ProviderServer:
    """A simulated provider."""

    dialect: str
    upstream: ScriptedUpstream

    @property
    def base_url(self) -> str:
        """What the gateway's configuration has for it."""
        return f"http://127.0.0.1:{self.upstream.port}{_BASE_PATHS[self.dialect]}"

    @property
    def model(self) -> str:
        """A model that it has."""
        return MODELS[self.dialect]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The body of each request."""
        return [json.loads(received.body) for received in self.upstream.received]

    def configuration(self) -> str:
        """A gateway's, with this one provider, whose model is called `m`, and every caller believed."""
        return TRUSTING + self.tables("simulated-provider", "m")

    def tables(self, name: str, alias: str) -> str:
        """This provider by a name, and its model by an alias, at a dollar and four for a million tokens."""
        version = 'api_version = "2024-10-21"\n' if self.dialect == "azure-deployments" else ""
        return f"""
[providers.{name}]
dialect = "{self.dialect}"
base_url = "{self.base_url}"
provider_key = "{SECRET}"
{version}
[[models.{alias}.deployments]]
provider = "{name}"
model = "{self.model}"
price = {{ input_usd_per_mtok = 1, output_usd_per_mtok = 4 }}
context_tokens = 200_000
max_output_tokens = 32_000
"""


@asynccontextmanager
async def provider_server(dialect: str) -> AsyncIterator[ProviderServer]:
    """A simulated provider that speaks this dialect of `proxy.core.dialect_names`."""

    def script(received: Received) -> list[Step]:
        if dialect in ("anthropic", "bedrock-anthropic"):
            return anthropic_wire.respond(received, is_bedrock=dialect == "bedrock-anthropic")
        return openai_wire.respond(received, dialect)

    async with scripted_upstream(script) as upstream:
        yield ProviderServer(dialect, upstream)
