"""The path and query of a call, as the provider's API has them.

Pure. Azure's older form names the deployment in the path and the API's version in the query
(learn.microsoft.com/azure/ai-foundry/openai/reference); everybody else's is as OpenAI's or Anthropic's own.
"""

from typing import Final
from urllib.parse import quote, unquote_plus

from proxy.dialects.dialect import Dialect

_VERSION: Final = "api-version"


def provider_path(dialect: Dialect, endpoint_path: str, model: str | None) -> str:
    """What follows the base URL. `endpoint_path` is what follows `/v1`; `model` the provider's name of the model."""
    if not dialect.model_in_path or model is None:
        return endpoint_path
    return f"/deployments/{quote(model, safe='')}{endpoint_path}"


def provider_query(query: str, api_version: str | None) -> str:
    """The query of a call to a provider whose API has versions (None: of Azure's form to one without).
    `query` is the caller's, less its version."""
    kept = [part for part in query.split("&") if part and unquote_plus(part.partition("=")[0]).lower() != _VERSION]
    if api_version is not None:
        kept.append(f"{_VERSION}={api_version}")
    return "&".join(kept)
