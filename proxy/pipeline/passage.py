"""What an answer's chunks pass on their way to the caller: who listens, who takes out, who watches the hold."""

from dataclasses import dataclass

from proxy.dialects.openai import StreamEnd
from proxy.dialects.usage import UsageTap
from proxy.dialects.usage_remover import UsageRemover
from proxy.pipeline.meter import Meter


@dataclass(slots=True)
class Passage:
    """One answer's. The tap hears each chunk as it came; what leaves is what the remover lets through."""

    tap: UsageTap
    stream_end: StreamEnd | None = None  # how a stream of this kind of call ends, if it is one
    remover: UsageRemover | None = None  # takes out of a stream what asking for its usage put in
    meter: Meter | None = None  # extends the hold of a stream without a ceiling
