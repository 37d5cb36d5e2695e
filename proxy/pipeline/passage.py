"""What an answer's chunks pass on their way to the caller: who listens, who rewrites, who watches the hold."""

from dataclasses import dataclass
from typing import Protocol

from proxy.dialects.openai import StreamEnd
from proxy.dialects.usage import UsageTap
from proxy.pipeline.cache_use import AnswerCopy
from proxy.pipeline.meter import Meter


class Rewriter(Protocol):
    """Makes other bytes of a stream: `UsageRemover`, and the translators of `dialects.translation`."""

    def feed(self, chunk: bytes) -> bytes:
        """What leaves for these bytes. Raises UpstreamMalformed."""
        ...

    def close(self) -> bytes:
        """What is still to leave at the stream's end."""
        ...


@dataclass(slots=True)
class Passage:
    """One answer's. The tap hears each chunk as it came; what leaves is what the rewriter makes of it."""

    tap: UsageTap
    stream_end: StreamEnd | None = None  # how a stream of the caller's kind of call ends, if it is one
    rewriter: Rewriter | None = None  # None: the bytes leave as they came
    meter: Meter | None = None  # extends the hold of a stream without a ceiling
    copy: AnswerCopy | None = None  # hears what leaves, to keep it
