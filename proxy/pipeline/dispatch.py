"""Sends the call to a deployment, and holds its answer until the first byte of the body.

Until that byte a failure is still a clear error of its own status; after it, the caller
already holds part of an answer and nothing can be taken back.
"""

from typing import Final

from proxy.adapters.http.transport import WholeBody
from proxy.core import jsonio
from proxy.core.clock import Clock
from proxy.core.errors import ProviderAuthFailed
from proxy.core.types import Deployment, KeySource
from proxy.dialects.openai import is_credential_error
from proxy.dialects.splice import replace_string, set_member
from proxy.dialects.stream_usage import UsageAsking, inject
from proxy.dialects.streamed_output import StreamedOutputCounter
from proxy.dialects.target import provider_path, provider_query
from proxy.dialects.usage import UsageTap
from proxy.pipeline.downstream import Downstream
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.reading import upload_bytes_max
from proxy.pipeline.snapshot import ProviderAccess
from proxy.upstream.client import ArrivingBody, PreparedHead, RequestBody, UpstreamAnswer
from proxy.upstream.headers import outbound_query, request_headers
from proxy.upstream.payer import Payer

_REFUSAL_BYTES_MAX: Final = 65_536
_LARGE_BYTES: Final = 65_536


class Dispatch:
    """Makes the attempts of an exchange."""

    __slots__ = ("_clock",)

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def send(
        self, exchange: Exchange, payer: Payer, downstream: Downstream
    ) -> tuple[UpstreamAnswer, bytes | None]:
        """Ask the chosen deployment: its answer, and the first bytes of the body (None: there
        is none). From then on the caller of this closes the answer.

        Raises:
            ProviderAuthFailed: the provider refused the gateway's own key.
            GatewayError: there is no answer to give (see `upstream.client`).
        """
        deployment = exchange.deployment
        assert deployment is not None, "selection comes before dispatch"
        provider = exchange.snapshot.providers[deployment.provider]
        body, is_edited, told_length = _outbound_body(exchange, deployment, downstream)
        call = exchange.call
        if call.text is not None and len(call.text) > _LARGE_BYTES:
            # All is decided: what was parsed need not be held for as long as the provider thinks.
            exchange.call = call._replace(document=None)
        decompressed = is_edited and exchange.call.text is not exchange.call.body
        if decompressed or told_length is not None or payer.source is KeySource.TENANT:
            # Nothing keeps a stored provider key for longer than the keyring does.
            head = _outbound_head(exchange, provider, payer, told_length, decompressed=decompressed)
        else:
            # The same for as often as the caller's head comes again, while the provider's settings hold.
            restores = exchange.asking is UsageAsking.RESTORE
            model = deployment.model if provider.dialect.model_in_path else None
            what = (provider.client, payer.source is KeySource.CALLER, restores, model)
            head = exchange.request.once(what, lambda: _outbound_head(exchange, provider, payer))
        exchange.attempts += 1
        exchange.sent_at_us = self._clock.monotonic_us()
        answer = await provider.client.send(head, body, stream=exchange.call.stream)
        try:
            return answer, await self._first_chunk(exchange, answer, payer)
        except BaseException:
            await answer.aclose()
            raise

    async def _first_chunk(self, exchange: Exchange, answer: UpstreamAnswer, payer: Payer) -> bytes | None:
        exchange.upstream_status = answer.status
        if answer.status in (401, 403) and payer.source is not KeySource.CALLER:
            first_chunk = await _beginning(answer)
            _refuse_credentials(exchange, answer, first_chunk, payer.source)
        else:
            first_chunk = await answer.next_chunk()
        exchange.first_byte_at_us = self._clock.monotonic_us()
        fields = answer.fields
        if exchange.call.stream and exchange.ticket is not None and exchange.ticket.estimate is not None:
            exchange.output_counter = StreamedOutputCounter(exchange.upstream_operation)
        exchange.usage_tap = UsageTap(
            exchange.upstream_operation,
            fields.get(b"content-type"),
            fields.get(b"content-encoding"),
            exchange.output_counter,
        )
        if first_chunk is not None:
            exchange.usage_tap.feed(first_chunk)
        return first_chunk


def _outbound_head(
    exchange: Exchange,
    provider: ProviderAccess,
    payer: Payer,
    told_length: bytes | None = None,
    *,
    decompressed: bool = False,
) -> PreparedHead:
    request, translation, deployment = exchange.request, exchange.translation, exchange.deployment
    assert deployment is not None
    provider_key = payer.provider_key
    if provider_key is None and payer.source is KeySource.CALLER and translation is not None:
        assert exchange.caller is not None
        provider_key = exchange.caller.provider_token  # shown as the other API's SDKs show it
    headers = request_headers(
        request,
        provider.dialect,
        payer.source,
        provider_key,
        content_length=told_length,
        decompressed=decompressed,
        # What asking adds can only be taken out of plain bytes, and only those can be translated.
        uncoded=exchange.asking is UsageAsking.RESTORE or translation is not None,
        translated=translation is not None,
    )
    path = request.endpoint_path if translation is None else translation.path
    path = provider_path(provider.dialect, path, deployment.model)
    query = outbound_query(request.query, payer.source) if translation is None else ""
    if request.model_of_path is not None or provider.settings.api_version is not None:
        query = provider_query(query, provider.settings.api_version)
    return provider.client.prepare(request.method, f"{path}?{query}" if query else path, headers, bound_to=payer.origin)


def _outbound_body(
    exchange: Exchange, deployment: Deployment, downstream: Downstream
) -> tuple[RequestBody, bool, bytes | None]:
    """The body of an attempt, whether anything in it was edited, and the length to tell."""
    call = exchange.call
    if call.body is None:
        if not exchange.request.has_body:
            return WholeBody(b""), False, None
        if exchange.form is not None:
            renamed = exchange.request.model_of_path is not None or call.model_alias not in (None, deployment.model)
            passing, length = exchange.form.outbound(deployment.model if renamed else None)
        else:
            length = downstream.announced_bytes
            passing = ArrivingBody(downstream.stream_body(upload_bytes_max(exchange)))
        return passing, False, None if length is None else b"%d" % length
    text = call.text
    if text is None:
        return WholeBody(call.body), False, None
    ticket, document = exchange.ticket, call.document
    if exchange.asking is not UsageAsking.LEAVE:
        assert document is not None, "who chose to ask has read it"
        text = inject(text, document)
    if ticket is not None and ticket.inserted_ceiling is not None:
        assert document is not None
        assert ticket.estimate is not None
        text = set_member(text, document, ticket.estimate.ceiling_names[0], b"%d" % ticket.inserted_ceiling)
    if exchange.translation is None and deployment.model is not None and call.model_alias is not None:
        text = _renamed(exchange, text, deployment.model)
    return (WholeBody(call.body), False, None) if text is call.text else (WholeBody(text), True, None)


def _renamed(exchange: Exchange, text: bytes, model: str) -> bytes:
    """The body's text, with the provider's name for the model."""
    if exchange.request.model_of_path is not None:  # the body's own name, if there is one, has decided nothing
        document = exchange.call.document or {}
        if document.get("model") == model:
            return text
        return set_member(text, document, "model", jsonio.encode(model))
    return text if model == exchange.call.model_alias else replace_string(text, "model", model)


async def _beginning(answer: UpstreamAnswer) -> bytes | None:
    """Enough of a refusal's body to tell what it is about."""
    pieces: list[bytes] = []
    held_bytes = 0
    while held_bytes < _REFUSAL_BYTES_MAX:
        chunk = await answer.next_chunk()
        if chunk is None:
            break
        pieces.append(chunk)
        held_bytes += len(chunk)
    return b"".join(pieces) or None


def _refuse_credentials(exchange: Exchange, answer: UpstreamAnswer, body: bytes | None, source: KeySource) -> None:
    if is_credential_error(answer.status, body or b""):
        assert exchange.deployment is not None
        if source is KeySource.TENANT:
            raise ProviderAuthFailed(
                f"{exchange.deployment.provider} refused the provider key that is stored for this tenant (it answered "
                f"{answer.status}). Your request is fine; `tollway provider-keys rotate` puts another in its place."
            )
        raise ProviderAuthFailed(
            f"{exchange.deployment.provider} refused the gateway's key (it answered {answer.status}). "
            "Your request is fine; whoever runs this gateway must renew that key."
        )
