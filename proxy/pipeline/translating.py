"""Where the provider speaks another API than the caller: the call on its way there, the answer on its way back.

From here on the attempt holds the call that the provider gets: what is reserved, asked and measured is that.
"""

from typing import Any, Final

from proxy.core import jsonio
from proxy.core.errors import InvalidJson, UnsupportedEndpoint, UnsupportedParameter, UpstreamMalformed
from proxy.core.types import Answer
from proxy.dialects.translation import TargetModel
from proxy.dialects.translators import Way, is_served, way_to
from proxy.dialects.usage_remover import is_event_stream
from proxy.pipeline.attempt import Attempt
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.snapshot import ProviderAccess
from proxy.pipeline.translation import Translation, told
from proxy.settings.model import OnUnsupported
from proxy.upstream.client import UpstreamAnswer

_ANSWER_BYTES_MAX: Final = 33_554_432
_PLAIN: Final = (None, b"", b"identity")


def translate(exchange: Exchange, attempt: Attempt, provider: ProviderAccess) -> None:
    """Say the attempt's call in the API of a provider that speaks another one than the caller.

    Raises:
        UnsupportedEndpoint: the provider has nothing like what is asked for.
        UnsupportedParameter: it cannot honour a part of the call, and the tenant has not said to leave it out.
        InvalidParameter: the call is not one of the caller's own API.
        InvalidJson: it is nested too deep to be said again.
    """
    shape, operation = provider.dialect.shape, exchange.operation
    assert operation.base_shape is not shape, "what is of the provider's own API is sent as it is"
    way = way_to(shape, operation)
    if way is not None:
        _translate(exchange, attempt, provider, way)
    elif not is_served(shape, operation):
        raise UnsupportedEndpoint(
            f"{provider.settings.name} has no {exchange.request.endpoint_path}. Ask for a model of another provider."
        )


def _translate(exchange: Exchange, attempt: Attempt, provider: ProviderAccess, way: Way) -> None:
    call, deployment, facts, tenant = attempt.call, attempt.deployment, attempt.facts, exchange.tenant
    assert call.document is not None, "what can be translated is a JSON object"
    assert tenant is not None
    target = TargetModel(
        deployment.model or call.model_alias or "",
        provider.dialect,
        None if facts is None else facts.max_output_tokens,
        exchange.snapshot.prices.abilities(deployment, exchange.started_at_ms).capabilities,
    )
    translated = way.translate(call.document, target, exchange.started_at_ms // 1_000)
    if translated.dropped and tenant.on_unsupported is OnUnsupported.REFUSE:
        raise _not_honoured(translated.dropped, deployment.label)
    text = _written(translated.document)
    attempt.call = call._replace(body=text, text=text, document=translated.document)
    attempt.operation = way.operation
    attempt.translation = Translation(way.name, way.path, translated.answers, told(translated.dropped))


def _written(document: dict[str, Any]) -> bytes:
    try:
        return jsonio.encode(document)
    except TypeError:  # a text may be read that is nested some four times deeper than one can be written
        message = "The request body is nested too deep to be said in the provider's API. Send a flatter one."
        raise InvalidJson(message) from None


def _not_honoured(dropped: tuple[str, ...], deployment: str) -> UnsupportedParameter:
    also = f" Nor can it: {told(dropped[1:])}." if len(dropped) > 1 else ""
    return UnsupportedParameter(
        f"{deployment} cannot honour `{dropped[0][:64]}`.{also} Leave it out, or ask for another model; where a tenant "
        'has `on_unsupported = "drop"`, what cannot be honoured is left out and told.',
        param=dropped[0][:64],
    )


def is_translated_stream(answer: UpstreamAnswer) -> bool:
    """True for an answer that is translated event by event."""
    return answer.status == 200 and is_event_stream(
        answer.fields.get(b"content-type"), answer.fields.get(b"content-encoding")
    )


async def whole_answer(exchange: Exchange, answer: UpstreamAnswer) -> Answer:
    """An answer that is no stream, read to its end and said in the caller's API; its status is the exchange's.

    Raises:
        UpstreamMalformed: it is encoded although nobody asked for that, or too long, or not of the provider's API.
        UpstreamTruncated, UpstreamTimedOut: it broke off.
    """
    attempt = exchange.attempt
    assert attempt is not None
    translation, tap = attempt.translation, attempt.usage_tap
    assert translation is not None
    assert tap is not None
    if answer.fields.get(b"content-encoding") not in _PLAIN:
        raise UpstreamMalformed("The provider compressed an answer that was asked for plain. Try again.")
    pieces: list[bytes] = []
    held_bytes = 0
    chunk = answer.take_beginning()
    while chunk is not None:
        pieces.append(chunk)
        held_bytes += len(chunk)
        if held_bytes > _ANSWER_BYTES_MAX:
            raise UpstreamMalformed(f"The provider's answer has more than {_ANSWER_BYTES_MAX} bytes. Ask for less.")
        chunk = await answer.next_chunk()
        if chunk is not None:
            tap.feed(chunk)
    tap.close()
    body = b"".join(pieces)
    if answer.status == 200:
        return Answer(200, translation.answers.whole(body))
    exchange.status, body = translation.answers.error(answer.status, body)
    return Answer(exchange.status, body)
