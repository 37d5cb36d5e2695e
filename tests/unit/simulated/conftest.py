from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from proxy.simulated.transport import SimulatedTransport


@pytest.fixture
async def openai_client() -> AsyncIterator[AsyncOpenAI]:
    """The official SDK, in front of the simulated provider."""
    # Newer SDKs name httpx's successor in their types, and take either.
    http_client: Any = httpx.AsyncClient(transport=SimulatedTransport())
    async with AsyncOpenAI(
        api_key="sk-test",
        base_url="http://simulated.test/v1",
        max_retries=0,
        http_client=http_client,
    ) as client:
        yield client
