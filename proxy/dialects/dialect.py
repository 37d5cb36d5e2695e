"""What each provider's API is like: which shape it speaks, how it is asked, and its quirks.

Pure, and all of it data. A provider's `dialect` in the configuration is one of `DIALECTS`. Two of
them that share a shape understand each other's bodies: those pass untouched. Where the shapes differ, a
translator stands between (`translation`).

Sources: platform.openai.com/docs/api-reference; docs.anthropic.com/en/api; ai.google.dev/gemini-api/docs/openai;
learn.microsoft.com/azure/ai-foundry/openai (the v1 API, and the data plane's versions before it);
docs.aws.amazon.com/bedrock (OpenAI-compatible endpoint, Anthropic's Messages, Bedrock API keys).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from proxy.core.dialect_names import AZURE_DEPLOYMENTS
from proxy.core.types import Headers
from proxy.dialects.openai import Shape


@dataclass(frozen=True, slots=True)
class Dialect:
    """One provider's way of speaking."""

    name: str
    shape: Shape = Shape.OPENAI
    # How a provider key is shown: the header's name, and what stands before the key in it.
    credential_header: bytes = b"authorization"
    credential_prefix: bytes = b"Bearer "
    # Said where the caller does not say otherwise.
    headers: Headers = ()
    # What stands between the base URL and the endpoint's path, unless the base URL ends with it.
    path_prefix: str = ""
    # The model is named in the path, as `/deployments/{model}`.
    model_in_path: bool = False
    # Whose prices hold, where the configuration names none; empty: nobody's.
    catalog: str = ""
    # What chat completions call the ceiling of an answer.
    ceiling_name: str = "max_completion_tokens"
    # It knows what of a call is about OpenAI's accounts alone: `user`, `service_tier`.
    knows_accounts: bool = False
    # A tool call carries `extra_content` that must come back with it (Gemini's thought signatures).
    has_extra_content: bool = False


_DIALECTS: Final = (
    Dialect("openai", catalog="openai", knows_accounts=True),
    Dialect(
        "anthropic",
        Shape.ANTHROPIC,
        credential_header=b"x-api-key",
        credential_prefix=b"",
        headers=((b"anthropic-version", b"2023-06-01"),),
        path_prefix="/v1",
        catalog="anthropic",
        ceiling_name="max_tokens",
    ),
    Dialect("gemini", catalog="gemini", ceiling_name="max_tokens", has_extra_content=True),
    Dialect("azure", credential_header=b"api-key", credential_prefix=b"", catalog="azure", knows_accounts=True),
    Dialect(
        AZURE_DEPLOYMENTS,
        credential_header=b"api-key",
        credential_prefix=b"",
        model_in_path=True,
        catalog="azure",
        knows_accounts=True,
    ),
    Dialect("bedrock", catalog="bedrock"),
    Dialect(
        "bedrock-anthropic",
        Shape.ANTHROPIC,
        headers=((b"anthropic-version", b"2023-06-01"),),
        path_prefix="/v1",
        catalog="bedrock",
        ceiling_name="max_tokens",
    ),
    Dialect("openai-compatible", ceiling_name="max_tokens"),
)
DIALECTS: Final[Mapping[str, Dialect]] = {dialect.name: dialect for dialect in _DIALECTS}
