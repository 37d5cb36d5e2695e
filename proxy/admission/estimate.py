"""What a call may cost at worst, before it is made.

Pure. `estimate` gives a true upper bound or refuses: nothing here is a guess, apart from
`expected_tokens`, which the token buckets take and settlement corrects. Text in the body has at
most as many tokens as UTF-8 bytes (byte-level tokenizers never make two of one); what a model's
template adds is bounded by a fixed amount. docs/pricing.md says for each kind of call what is held.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from proxy.admission.ceilings import ceiling_names, choices, largest_reading, own_ceiling
from proxy.admission.hosted_tools import NO_TOOLS, hosted_tools
from proxy.admission.visible_input import Visible, look
from proxy.admission.worst_rates import WorstRates, worst_rates
from proxy.core.errors import UnpricedEndpoint
from proxy.core.limits import CAP_NUSD_MAX
from proxy.core.types import Call, Usage
from proxy.dialects.letter_case import misread_name
from proxy.dialects.openai import Operation
from proxy.dialects.splice import may_hide_names
from proxy.pricing.cost import FUSD_PER_NUSD
from proxy.pricing.facts import ModelFacts

# What templates, system prompts and tool preambles add to a text. The largest that vendors
# document is Anthropic's, some 700 tokens for a tool of its own type.
FRAME_TOKENS: Final = 2_048
TOOL_TOKENS: Final = 1_024
# Sealed reasoning is compressed before it is encoded: no text of a language shrinks below a sixth.
SEALED_TOKENS_PER_BYTE: Final = 4
IMAGES_MAX: Final = 10  # what one call may ask for, where its body cannot be read
EXPECTED_OUTPUT_TOKENS: Final = 512
EXPECTED_BYTES_PER_TOKEN: Final = 4
NAMING_BYTES: Final = 64  # what a ceiling adds to a body: the longest name, its number, indentation
HELD_NUSD_MAX: Final = CAP_NUSD_MAX + 1  # more than any cap; with the largest cap it stays below 2**53

_TEXTING: Final = frozenset({"chat_completions", "completions", "messages", "responses", "responses_compact"})
_FREE: Final = frozenset({"messages_count_tokens", "model", "models", "responses_input_tokens"})
_FREE_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS"})
_HEARING: Final = frozenset({"audio_transcriptions", "audio_translations"})
_MS_PER_MINUTE: Final = 60_000
# Members that bring no tools, no passes and no modes: most calls of texts have no others.
_PLAIN: Final = frozenset(
    """
    frequency_penalty input instructions logit_bias logprobs max_completion_tokens max_output_tokens max_tokens messages
    metadata model n parallel_tool_calls presence_penalty response_format safety_identifier seed service_tier stop
    stop_sequences store stream stream_options system temperature text tool_choice top_k top_logprobs top_p user
    verbosity
    """.split()
)
_MODE: Final = frozenset({"mode"})
_EDITS: Final = frozenset({"edits", "type"})
_TYPE: Final = frozenset({"type"})
_NO_FIELDS: Final[Mapping[str, Any]] = MappingProxyType({})


class Estimate(NamedTuple):
    """The worst case of one call, and what it is made of."""

    held_nusd: int
    expected_tokens: int  # for token buckets: what is likely, not what is possible
    input_tokens_max: int  # of all passes together
    output_tokens_max: int  # of all answers together
    ceiling: int | None = None  # the caller's own, for one answer
    ceiling_names: tuple[str, ...] = ()  # the fields that would carry one, the one to prefer first
    answer_tokens_max: int = 0  # of one answer: the ceiling, or the model's own maximum
    unreported: Usage | None = None  # what is charged where the endpoint reports nothing
    fixed_fusd: int = 0  # all but what a ceiling bounds, in femto-dollars
    answer_fusd_per_token: int = 0  # a token more in each of the answers
    is_in_sight: bool = True  # False: what goes in is not all text in the body, as with pictures, files, addresses
    runs_tools: bool = False  # passes and fees that only a whole report tells


FREE: Final = Estimate(0, 0, 0, 0)


def is_free(method: str, operation: Operation) -> bool:
    """True for calls that no provider bills: all that only read or delete, and token counting."""
    return method in _FREE_METHODS or operation.name in _FREE


def estimate(
    operation: Operation, call: Call, facts: ModelFacts, *, catalog: str, project_tier: str | None = None
) -> Estimate:
    """The worst case of a call of a priced model.

    `catalog` is the name of its prices, which tells the provider's dialect of ceilings;
    `project_tier` the service tier that its project is known to be set to.

    Raises:
        UnpricedEndpoint: nothing that is known here bounds it. The message says what would.
    """
    document = call.document if call.document is not None else _NO_FIELDS
    text = call.text or b""
    name = operation.name
    if name in _TEXTING:
        return _of_text(name, document, text, facts, catalog, project_tier)
    if name in _FREE or (name == "moderations" and not facts.price.counts_tokens):
        return FREE._replace(expected_tokens=len(text) // EXPECTED_BYTES_PER_TOKEN)
    if name in ("embeddings", "moderations"):
        return _of_input(name, document, text, facts, project_tier)
    if name == "images":
        return _of_images(document, call, facts, project_tier)
    if name == "audio_speech":
        return _of_speech(document, text, facts, project_tier)
    if name in _HEARING:
        return _of_hearing(document, facts, project_tier)
    raise UnpricedEndpoint(
        "No rule says what this path costs, and a spend cap holds for you. The operator can set `allow_unmetered`."
    )


def worst_nusd(of: Estimate, answer_tokens: int) -> int:
    """The worst case if each answer has at most so many tokens: what a slice of a stream holds,
    and, less what is held already, what extending it takes."""
    return _nusd(of.fixed_fusd + min(answer_tokens, of.answer_tokens_max) * of.answer_fusd_per_token)


def _nusd(fusd: int) -> int:
    """Whole nano-dollars, upwards; what is more than any cap may be is just that."""
    return min(-(-fusd // FUSD_PER_NUSD), HELD_NUSD_MAX)


def ceiling_that_fits(of: Estimate, headroom_nusd: int) -> int | None:
    """The highest ceiling whose worst case is within so much money; None where no answer is."""
    left_fusd = headroom_nusd * FUSD_PER_NUSD - of.fixed_fusd
    if left_fusd < of.answer_fusd_per_token:
        return None
    if not of.answer_fusd_per_token:
        return of.answer_tokens_max or None
    return min(left_fusd // of.answer_fusd_per_token, of.answer_tokens_max) or None


def ceiling_to_name(of: Estimate, headroom_nusd: int) -> int | None:
    """As `ceiling_that_fits`, for a caller that has yet to write it: its body is longer then."""
    naming_fusd = of.fixed_fusd * NAMING_BYTES // max(1, of.input_tokens_max)
    return ceiling_that_fits(of, headroom_nusd - _nusd(naming_fusd))


def expect_tokens(text: bytes | None, ceiling: int | None, answers: int = 1) -> int:
    """What a call will likely use, for token buckets; also where no price is known."""
    expected_output = min(EXPECTED_OUTPUT_TOKENS, ceiling) if ceiling is not None else EXPECTED_OUTPUT_TOKENS
    return len(text or b"") // EXPECTED_BYTES_PER_TOKEN + expected_output * answers


# ── text ─────────────────────────────────────────────────────────────────────────────────


def _of_text(
    name: str, document: Mapping[str, Any], text: bytes, facts: ModelFacts, catalog: str, project_tier: str | None
) -> Estimate:
    tools, compacts, is_plain = NO_TOOLS, False, _PLAIN.issuperset(document)
    if not is_plain:
        _refuse_unknown_modes(document)
        tools, compacts = hosted_tools(name, document, facts.price), _compacts(document)
    visible = look(name, document, text)
    # A search model fills its own context; so do tools, and a compaction reads it once more.
    is_filled = tools.are_any or compacts or facts.price.request_nusd
    passes = (tools.runs + 1) * (2 if compacts else 1)
    if is_filled and visible.is_whole:
        visible = visible._replace(is_whole=False)
    pass_tokens = _input_tokens_max(document, text, facts, visible)
    # A report sums all passes, and is priced by that sum.
    rates = worst_rates(
        facts.price, document, pass_tokens * passes, keeps_long=_keeps_long(text), project_tier=project_tier
    )
    names = ceiling_names(name, catalog)
    ceiling = own_ceiling(document, names)
    answer_tokens = _answer_tokens_max(ceiling, names, facts)
    answers = choices(name, document)
    # Anthropic says of no ceiling that it holds over all passes of its tools together.
    each = answers * (tools.runs + 1 if name == "messages" else 1)
    beside_tokens = 0 if is_plain else _output_beside_ceiling(document, text, answers)
    if compacts:
        beside_tokens += passes * _answer_tokens_max(None, names, facts)
    input_fusd = passes * _input_fusd(pass_tokens, visible, facts, rates)
    fixed_fusd = input_fusd + beside_tokens * rates.output_nusd_per_mtok
    fixed_fusd += (facts.price.request_nusd + tools.fees_nusd) * FUSD_PER_NUSD
    answer_fusd_per_token = each * rates.output_nusd_per_mtok
    return Estimate(
        _nusd(fixed_fusd + answer_tokens * answer_fusd_per_token),
        expect_tokens(text, ceiling, answers),
        pass_tokens * passes,
        answer_tokens * each + beside_tokens,
        ceiling,
        names,
        answer_tokens,
        None,
        fixed_fusd,
        answer_fusd_per_token,
        visible.is_whole and not visible.pictures,
        tools.runs > 0 or compacts,
    )


def _refuse_unknown_modes(document: Mapping[str, Any]) -> None:
    reasoning = document.get("reasoning")
    if isinstance(reasoning, dict) and (
        reasoning.get("mode") not in (None, "standard") or misread_name(reasoning, _MODE) is not None
    ):
        raise UnpricedEndpoint(
            "What `reasoning.mode` adds has no known bound, and a spend cap holds for you. Leave it out.",
            param="reasoning",
        )


def _compacts(document: Mapping[str, Any]) -> bool:
    """True where the provider may summarise the conversation first, with calls of its own."""
    if document.get("compaction") is not None:
        return True
    management = document.get("context_management")
    if isinstance(management, dict):
        if misread_name(management, _EDITS) is not None:
            return True
        management = management.get("edits", [management])
    if not isinstance(management, list):
        return management is not None
    return not all(isinstance(edit, dict) and _is_clearing(edit) for edit in management)


def _is_clearing(edit: Mapping[str, Any]) -> bool:
    kind = edit.get("type")
    return isinstance(kind, str) and kind.startswith("clear_") and misread_name(edit, _TYPE) is None


def _answer_tokens_max(ceiling: int | None, names: tuple[str, ...], facts: ModelFacts) -> int:
    longest = facts.max_output_tokens
    if ceiling is not None:
        return ceiling if longest is None else min(ceiling, longest)
    if longest is None:
        raise UnpricedEndpoint(
            f"Nobody here knows how long this model's answers can be, and a spend cap holds for you. "
            f"Set `{names[0] if names else 'max_output_tokens'}`.",
            param=names[0] if names else None,
        )
    return longest


def _output_beside_ceiling(document: Mapping[str, Any], text: bytes, answers: int) -> int:
    """Billed as output, and bounded by no ceiling: an echoed prompt, a prediction that was wrong."""
    beside = 0
    if document.get("echo"):
        beside += len(text) * answers
    if document.get("prediction") is not None:
        beside += len(text) * answers
    return beside


# ── what goes in ─────────────────────────────────────────────────────────────────────────


def _input_tokens_max(
    document: Mapping[str, Any], text: bytes, facts: ModelFacts, visible: Visible, frame_tokens: int = FRAME_TOKENS
) -> int:
    """The longest that one pass's input can be, in tokens."""
    if visible.is_whole and (not visible.pictures or facts.image_tokens_max is not None):
        bound = len(text) + frame_tokens + visible.sealed_bytes * SEALED_TOKENS_PER_BYTE
        if visible.pictures:
            bound += visible.pictures * (facts.image_tokens_max or 0)
        tools = document.get("tools")
        if isinstance(tools, list):
            bound += TOOL_TOKENS * len(tools)
        return bound if facts.context_tokens is None else min(bound, facts.context_tokens)
    if facts.context_tokens is None:
        raise UnpricedEndpoint(
            "Some of this call's input is not in its body, nobody here knows how much this model takes, and a spend "
            "cap holds for you. Send text, or have the operator set the model's `context_tokens`."
        )
    return facts.context_tokens


def _input_fusd(tokens: int, visible: Visible, facts: ModelFacts, rates: WorstRates) -> int:
    if not visible.is_whole or (visible.pictures and facts.image_tokens_max is None):
        return tokens * rates.unseen_nusd_per_mtok
    return tokens * (rates.picture_nusd_per_mtok if visible.pictures else rates.text_nusd_per_mtok)


def _keeps_long(text: bytes) -> bool:
    """True where the body may name a retention, in whatever spelling."""
    return b'"ttl"' in text or may_hide_names(text)


def _of_input(
    name: str, document: Mapping[str, Any], text: bytes, facts: ModelFacts, project_tier: str | None
) -> Estimate:
    """What has no answer in tokens: embeddings, and moderations where they cost."""
    visible = look(name, document, text)
    tokens = len(text) + FRAME_TOKENS
    # Each item of an array may be as long as the model takes; the body's bytes bound their sum.
    if not visible.is_whole or visible.pictures:
        tokens = _items_in(document) * _input_tokens_max(document, text, facts, Visible(False))
    rates = worst_rates(facts.price, document, tokens, keeps_long=_keeps_long(text), project_tier=project_tier)
    unseen = not visible.is_whole or bool(visible.pictures)
    fixed_fusd = tokens * (rates.unseen_nusd_per_mtok if unseen else rates.text_nusd_per_mtok)
    found = Estimate(0, len(text) // EXPECTED_BYTES_PER_TOKEN, tokens, 0, fixed_fusd=fixed_fusd)
    return found._replace(held_nusd=worst_nusd(found, 0))


def _items_in(document: Mapping[str, Any]) -> int:
    given = document.get("input")
    return max(len(given), 1) if isinstance(given, list) else 1


# ── pictures and sound ───────────────────────────────────────────────────────────────────


def _of_images(document: Mapping[str, Any], call: Call, facts: ModelFacts, project_tier: str | None) -> Estimate:
    """`n` pictures, each at the dearest size and quality; by the piece, by tokens, or both."""
    text = call.text or b""
    pictures = (largest_reading(document.get("n")) or 1) if call.document is not None else IMAGES_MAX
    # An edit's picture and its mask come in a form, or by address: out of sight.
    visible = look("images", document, text) if text else Visible(False)
    input_tokens = picture_tokens = 0
    fixed_fusd = pictures * facts.price.image_nusd * FUSD_PER_NUSD
    if facts.price.counts_tokens:
        bounds = [tokens for tokens in (facts.picture_tokens_max, facts.max_output_tokens) if tokens]
        if not bounds:
            raise UnpricedEndpoint(
                "Nobody here knows how many tokens a picture of this model can come to, and a spend cap holds for you. "
                "Have the operator set the model's `max_output_tokens`."
            )
        picture_tokens = min(bounds)
        input_tokens = _input_tokens_max(document, text, facts, visible)
        rates = worst_rates(facts.price, document, input_tokens, keeps_long=False, project_tier=project_tier)
        fixed_fusd += input_tokens * rates.unseen_nusd_per_mtok
        fixed_fusd += pictures * picture_tokens * rates.output_nusd_per_mtok
    found = Estimate(
        0,
        expect_tokens(text, picture_tokens, pictures),
        input_tokens,
        picture_tokens * pictures,
        unreported=None if facts.price.counts_tokens else Usage(images=pictures),
        fixed_fusd=fixed_fusd + facts.price.request_nusd * FUSD_PER_NUSD,
    )
    return found._replace(held_nusd=worst_nusd(found, 0))


def _of_speech(document: Mapping[str, Any], text: bytes, facts: ModelFacts, project_tier: str | None) -> Estimate:
    """By the letter, which is exact; by tokens only where the model's longest answer is known."""
    spoken = document.get("input")
    if not isinstance(spoken, str):
        raise UnpricedEndpoint("`input` is no text, so nobody can say what it costs. Send text.", param="input")
    price = facts.price
    tokens = len(text) + FRAME_TOKENS
    output_tokens = 0
    # Some vendors count letters, some UTF-16 units: in UTF-8 there are at least as many bytes.
    fixed_fusd = len(spoken.encode("utf-8", "surrogatepass")) * price.speech_nusd_per_mchar
    if price.counts_tokens:
        output_tokens = _answer_tokens_max(None, (), facts)
        rates = worst_rates(price, document, tokens, keeps_long=False, project_tier=project_tier)
        fixed_fusd += tokens * rates.text_nusd_per_mtok + output_tokens * rates.output_nusd_per_mtok
    found = Estimate(
        0,
        expect_tokens(text, output_tokens),
        tokens,
        output_tokens,
        unreported=None if price.counts_tokens else Usage(characters=len(spoken)),
        fixed_fusd=fixed_fusd,
    )
    return found._replace(held_nusd=worst_nusd(found, 0))


def _of_hearing(document: Mapping[str, Any], facts: ModelFacts, project_tier: str | None) -> Estimate:
    """By tokens or by time, up to the most that the model takes: a file's size says nothing of how
    long its sound is, since silence packs into almost no bytes."""
    price = facts.price
    fixed_fusd = input_tokens = output_tokens = 0
    if price.counts_tokens and document.get("chunking_strategy") is not None:
        raise UnpricedEndpoint(
            "`chunking_strategy` makes several passes of one sound, nobody here knows how many, and a spend cap holds "
            "for you. Leave it out.",
            param="chunking_strategy",
        )
    if price.audio_nusd_per_minute:
        if facts.audio_ms_max is None:
            raise UnpricedEndpoint(
                "This model is sold by time, nobody here knows how long a sound it takes, and a spend cap holds for "
                "you. Ask a model that is sold by tokens, or have the operator write its `audio_seconds_max`."
            )
        fixed_fusd += -(-facts.audio_ms_max * price.audio_nusd_per_minute * FUSD_PER_NUSD // _MS_PER_MINUTE)
    if price.counts_tokens:
        input_tokens = _input_tokens_max(document, b"", facts, Visible(False))
        output_tokens = _answer_tokens_max(None, (), facts)
        rates = worst_rates(price, document, input_tokens, keeps_long=False, project_tier=project_tier)
        fixed_fusd += input_tokens * rates.unseen_nusd_per_mtok + output_tokens * rates.output_nusd_per_mtok
    found = Estimate(0, EXPECTED_OUTPUT_TOKENS, input_tokens, output_tokens, fixed_fusd=fixed_fusd)
    return found._replace(held_nusd=worst_nusd(found, 0))
