"""Reads the price table of LiteLLM (MIT), whose names and units are its own.

Pure. The table is one JSON object: a name for each model, often with its provider before it, and
fields such as `input_cost_per_token_above_272k_tokens_priority`: dollars, as floats, for one unit.
What it says of a model is taken apart here; `convert` puts it together again in our terms.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

from proxy.pricing.facts import STANDARD

# The table's providers, in the order of whose word counts where two name the same model; our
# catalogue; and what the table puts before the model's name.
PROVIDERS: Final = {
    "openai": ("openai", "openai/"),
    "text-completion-openai": ("openai", ""),
    "anthropic": ("anthropic", "anthropic/"),
    "gemini": ("gemini", "gemini/"),
    "azure": ("azure", "azure/"),
    "azure_text": ("azure", "azure/"),
    "azure_ai": ("azure", "azure_ai/"),
    "bedrock_mantle": ("bedrock", "bedrock_mantle/"),
    "bedrock_converse": ("bedrock", "bedrock/"),
    "bedrock": ("bedrock", "bedrock/"),
    "mistral": ("mistral", "mistral/"),
    "xai": ("xai", "xai/"),
    "deepseek": ("deepseek", "deepseek/"),
    "groq": ("groq", "groq/"),
    "together_ai": ("together", "together_ai/"),
    "fireworks_ai": ("fireworks", "fireworks_ai/"),
    "fireworks_ai-embedding-models": ("fireworks", "fireworks_ai/"),
    "cerebras": ("cerebras", "cerebras/"),
    "moonshot": ("moonshot", "moonshot/"),
    "zai": ("zai", "zai/"),
    "deepinfra": ("deepinfra", "deepinfra/"),
    "nebius": ("nebius", "nebius/"),
}
_VERTEX: Final = ("vertex", "vertex_ai/")
_AZURE_ZONES: Final = ("eu", "us")
# Sizes and qualities of pictures, which are no models; regions of Bedrock and commitments to it.
_NO_MODEL: Final = re.compile(r"\d+-x-\d+/|^bedrock/[^/]+/|/container$|-commitment/|^azure/(?:apac|us-gov)/")

MODES: Final = frozenset(
    "chat responses completion embedding moderation image_generation audio_transcription audio_speech".split()
)

_RATES: Final = {
    "cache_creation_input_token_cost_above_12hr": "cache_write_long",
    "cache_creation_input_token_cost_above_1hr": "cache_write_long",
    "cache_creation_input_token_cost": "cache_write",
    "cache_read_input_audio_token_cost": "cached_audio_input",
    "cache_read_input_image_token_cost": "cached_image_input",
    "cache_read_input_token_cost": "cached_input",
    "input_cost_per_audio_token": "audio_input",
    "input_cost_per_image_token": "image_input",
    "input_cost_per_token": "input",
    "output_cost_per_audio_token": "audio_output",
    "output_cost_per_image_token": "image_output",
    "output_cost_per_reasoning_token": "reasoning",
    "output_cost_per_token": "output",
}
_RATE: Final = re.compile(
    rf"({'|'.join(_RATES)})(?:_above_(\d+)k_tokens)?(?:_(batches|flex|priority|ultrafast))?", re.ASCII
)
_TIERS: Final = {None: STANDARD, "batches": "batch"}

CAPABILITY_FLAGS: Final = {
    "supports_audio_input": "audio_input",
    "supports_audio_output": "audio_output",
    "supports_computer_use": "computer_use",
    "supports_response_schema": "json_schema",
    "supports_parallel_function_calling": "parallel_tools",
    "supports_pdf_input": "pdf",
    "supports_prompt_caching": "prompt_caching",
    "supports_reasoning": "reasoning",
    "supports_function_calling": "tools",
    "supports_video_input": "video",
    "supports_vision": "vision",
    "supports_web_search": "web_search",
}


class Place(NamedTuple):
    """Where an entry belongs in our catalogues."""

    catalog: str
    model: str


@dataclass(frozen=True, slots=True)
class RateCell:
    """One rate of an entry: which kind of token, from which length of input on, in which tier."""

    kind: str  # one of the reader's RATE_NAMES
    above_tokens: int
    tier: str


def place_of(name: str, entry: Mapping[str, Any]) -> Place | None:
    """The catalogue and the model's name there; None for what this gateway does not speak to."""
    provider = str(entry.get("litellm_provider"))
    known = PROVIDERS.get(provider) or (_VERTEX if provider.startswith("vertex_ai") else None)
    if known is None or entry.get("mode") not in MODES or _NO_MODEL.search(name):
        return None
    catalog, prefix = known
    model = name.removeprefix(prefix)
    if catalog == "vertex":
        model = model.removeprefix("google/")
    if provider == "azure":
        zone, _, rest = model.partition("/")
        if zone in _AZURE_ZONES:
            return Place(f"azure-{zone}", rest)
        if zone in ("global", "global-standard"):
            model = rest
    return Place(catalog, model)


def rank_of(entry: Mapping[str, Any]) -> int:
    """Whose word counts where two entries name the same model: the lowest."""
    names = list(PROVIDERS)
    provider = entry.get("litellm_provider")
    return names.index(provider) if provider in names else len(names)


def rate_cell(field: str) -> RateCell | None:
    """What a field of an entry prices; None where it is no rate for tokens that we know."""
    found = _RATE.fullmatch(field)
    if found is None:
        return None
    above_tokens = int(found[2]) * 1_000 if found[2] else 0
    return RateCell(_RATES[found[1]], above_tokens, _TIERS.get(found[3], found[3]) or STANDARD)


def dollars(value: object) -> Decimal | None:
    """A number of the table, as it is written there; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value))
    except ArithmeticError:
        return None
    return amount if amount.is_finite() else None
