"""Sends an attempt's call, and holds its answer until the first byte of the body that says something.

Until that byte a failure is still a clear error of its own status; after it, the caller
already holds part of an answer and nothing can be taken back.
"""

import asyncio
from typing import Final

from proxy.core import jsonio
from proxy.core.clock import Clock
from proxy.core.errors import ProviderAuthFailed, UpstreamTimedOut
from proxy.core.types import KeySource
from proxy.dialects.openai import is_credential_error
from proxy.dialects.opening import Opening, read_opening
from proxy.dialects.splice import replace_string, set_member
from proxy.dialects.stream_usage import UsageAsking, inject
from proxy.dialects.streamed_output import StreamedOutputCounter
from proxy.dialects.target import provider_path, provider_query
from proxy.dialects.usage import UsageTap
from proxy.dialects.usage_remover import is_event_stream
from proxy.pipeline.attempt import Attempt
from proxy.pipeline.downstream import Downstream
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.reading import upload_bytes_max
from proxy.pipeline.snapshot import ProviderAccess
from proxy.upstream.client import ArrivingBody, PreparedHead, RequestBody, UpstreamAnswer
from proxy.upstream.headers import outbound_query, request_headers

_REFUSAL_BYTES_MAX: Final = 65_536
_LARGE_BYTES: Final = 65_536


class Dispatch:
    """Makes attempts."""

    __slots__ = ("_clock",)

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def send(
        self, exchange: Exchange, attempt: Attempt, downstream: Downstream, total_s: float | None
    ) -> UpstreamAnswer:
        """Ask the attempt's deployment: its answer, once its body has begun. From then on the caller of this closes
        it. `total_s` is what is left of the time that a call may take; None: all of it.

        Raises:
            ProviderAuthFailed: the provider refused a key that is not the caller's own.
            GatewayError: there is no answer to give (see `upstream.client`).
        """
        deployment, source = attempt.candidate.deployment, attempt.payer.source
        provider = exchange.snapshot.providers[deployment.provider]
        body, is_edited, told_length = _outbound_body(exchange, attempt, downstream)
        call = attempt.call
        text = call.text
        if text is not None and len(text) > _LARGE_BYTES:
            exchange.let_document_go()  # nor need it be held for as long as the provider thinks
        decompressed = is_edited and text is not call.body
        if decompressed or told_length is not None or source is KeySource.TENANT:
            # Nothing keeps a stored provider key for longer than the keyring does.
            head = _outbound_head(exchange, attempt, provider, told_length, decompressed=decompressed)
        else:
            # The same for as often as the caller's head comes again, while the provider's settings hold.
            restores = attempt.asking is UsageAsking.RESTORE
            model = deployment.model if provider.dialect.model_in_path else None
            what = (provider.client, source is KeySource.CALLER, restores, model)
            head = exchange.request.once(what, lambda: _outbound_head(exchange, attempt, provider))
        if attempt.upstream_status is not None:
            attempt.forget_answer()
        exchange.attempts += 1
        if exchange.sent_at_us is None:
            exchange.sent_at_us = self._clock.monotonic_us()
        answer = await provider.client.send(head, body, stream=call.stream, total_s=total_s)
        try:
            await self._wait_for_body(exchange, attempt, answer)
        except BaseException:
            await answer.aclose()
            raise
        return answer

    async def _wait_for_body(self, exchange: Exchange, attempt: Attempt, answer: UpstreamAnswer) -> None:
        status = attempt.upstream_status = answer.status
        content_type = answer.fields.get(b"content-type")
        content_encoding = answer.fields.get(b"content-encoding")
        first_chunk = answer.take_beginning() or await answer.next_chunk()
        if status in (401, 403) and attempt.payer.source is not KeySource.CALLER:
            first_chunk = await _beginning(answer, first_chunk)
            _refuse_credentials(attempt, answer, first_chunk)
        if attempt.call.stream:
            if first_chunk is not None and status == 200 and is_event_stream(content_type, content_encoding):
                first_chunk = await self._first_event(exchange, attempt, answer, first_chunk)
            if exchange.ticket is not None and exchange.ticket.estimate is not None:
                attempt.output_counter = StreamedOutputCounter(attempt.operation)
        exchange.first_byte_at_us = self._clock.monotonic_us()
        tap = attempt.usage_tap = UsageTap(attempt.operation, content_type, content_encoding, attempt.output_counter)
        if first_chunk is not None:
            tap.feed(first_chunk)
        answer.beginning = first_chunk

    async def _first_event(
        self, exchange: Exchange, attempt: Attempt, answer: UpstreamAnswer, first_chunk: bytes
    ) -> bytes:
        """Hold a stream until its first event that is no ping: that may be an error which another need not make."""
        opening = read_opening(first_chunk)
        if opening is Opening.PENDING:
            provider = exchange.snapshot.providers[attempt.deployment.provider].settings
            try:
                async with asyncio.timeout(provider.timeouts_s.first_byte):
                    while opening is Opening.PENDING and (chunk := await answer.next_chunk()) is not None:
                        first_chunk += chunk
                        opening = read_opening(first_chunk)
            except TimeoutError:
                message = f"{provider.name} sent nothing but pings for {provider.timeouts_s.first_byte:g} s. Try again."
                raise UpstreamTimedOut(message) from None
        attempt.opening = opening
        return first_chunk


def _outbound_head(
    exchange: Exchange,
    attempt: Attempt,
    provider: ProviderAccess,
    told_length: bytes | None = None,
    *,
    decompressed: bool = False,
) -> PreparedHead:
    request, translation, payer = exchange.request, attempt.translation, attempt.payer
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
        uncoded=attempt.asking is UsageAsking.RESTORE or translation is not None,
        translated=translation is not None,
    )
    path = request.endpoint_path if translation is None else translation.path
    path = provider_path(provider.dialect, path, attempt.deployment.model)
    query = outbound_query(request.query, payer.source) if translation is None else ""
    if request.model_of_path is not None or provider.settings.api_version is not None:
        query = provider_query(query, provider.settings.api_version)
    return provider.client.prepare(request.method, f"{path}?{query}" if query else path, headers, bound_to=payer.origin)


def _outbound_body(
    exchange: Exchange, attempt: Attempt, downstream: Downstream
) -> tuple[RequestBody, bool, bytes | None]:
    """The body of an attempt, whether anything in it was edited, and the length to tell."""
    call, ticket = attempt.call, exchange.ticket
    text = call.text
    if text is None:
        return _unread_body(exchange, attempt, downstream)
    if attempt.asking is not UsageAsking.LEAVE or (ticket is not None and ticket.inserted_ceiling is not None):
        text = _extended(exchange, attempt, text)
    if attempt.translation is None and call.model_alias is not None:
        model = attempt.candidate.deployment.model
        if model is not None and (model != call.model_alias or exchange.request.model_of_path is not None):
            text = _renamed(exchange, text, model)
    if text is not call.text:
        return text, True, None
    assert call.body is not None, "its text was read from it"
    return call.body, False, None


def _unread_body(
    exchange: Exchange, attempt: Attempt, downstream: Downstream
) -> tuple[RequestBody, bool, bytes | None]:
    """`_outbound_body` where the body is none, is no text, or is passed on as it comes."""
    call, model = attempt.call, attempt.candidate.deployment.model
    if call.body is not None:
        return call.body, False, None
    if not exchange.request.has_body:
        return b"", False, None
    if exchange.form is not None:
        renamed = exchange.request.model_of_path is not None or call.model_alias not in (None, model)
        passing, length = exchange.form.outbound(model if renamed else None)
    else:
        length = downstream.announced_bytes
        passing = ArrivingBody(downstream.stream_body(upload_bytes_max(exchange)))
    return passing, False, None if length is None else b"%d" % length


def _extended(exchange: Exchange, attempt: Attempt, text: bytes) -> bytes:
    """The body's text, with what the gateway asks for on its own account: a report of usage, a ceiling."""
    ticket, document = exchange.ticket, attempt.call.document
    if document is None:
        document = jsonio.parse(text)  # it was let go when this was sent before
    if attempt.asking is not UsageAsking.LEAVE:
        text = inject(text, document)
    if ticket is not None and ticket.inserted_ceiling is not None:
        assert ticket.estimate is not None
        text = set_member(text, document, ticket.estimate.ceiling_names[0], b"%d" % ticket.inserted_ceiling)
    return text


def _renamed(exchange: Exchange, text: bytes, model: str) -> bytes:
    """The body's text, with the provider's name for the model."""
    if exchange.request.model_of_path is not None:  # the body's own name, if there is one, has decided nothing
        # It was let go when this was sent before; or had nothing in it, and the text has by now.
        document = exchange.call.document or jsonio.parse(text)
        if document.get("model") == model:
            return text
        return set_member(text, document, "model", jsonio.encode(model))
    return replace_string(text, "model", model)


async def _beginning(answer: UpstreamAnswer, first_chunk: bytes | None) -> bytes | None:
    """Enough of a refusal's body to tell what it is about."""
    pieces: list[bytes] = []
    held_bytes = 0
    chunk = first_chunk
    while chunk is not None:
        pieces.append(chunk)
        held_bytes += len(chunk)
        if held_bytes >= _REFUSAL_BYTES_MAX:
            break
        chunk = await answer.next_chunk()
    return b"".join(pieces) or None


def _refuse_credentials(attempt: Attempt, answer: UpstreamAnswer, body: bytes | None) -> None:
    if is_credential_error(answer.status, body or b""):
        provider = attempt.deployment.provider
        if attempt.key_source is KeySource.TENANT:
            raise ProviderAuthFailed(
                f"{provider} refused the provider key that is stored for this tenant (it answered "
                f"{answer.status}). Your request is fine; `tollway provider-keys rotate` puts another in its place."
            )
        raise ProviderAuthFailed(
            f"{provider} refused the gateway's key (it answered {answer.status}). "
            "Your request is fine; whoever runs this gateway must renew that key."
        )
