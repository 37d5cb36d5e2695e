from collections.abc import AsyncIterator

import httpx
import pytest
from openai import AsyncOpenAI

from proxy.simulated.transport import SimulatedTransport


@pytest.fixture
async def openai_client() -> AsyncIterator[AsyncOpenAI]:
    """The official SDK, in front of the simulated provider."""
    async with AsyncOpenAI(
        api_key="sk-test",
        base_url="http://simulated.test/v1",
        max_retries=0,
        http_client=httpx.AsyncClient(transport=SimulatedTransport()),
    ) as client:
        yield client
