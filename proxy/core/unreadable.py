"""Why a stored provider key, or a sealed answer, cannot be opened: a closed vocabulary."""

from enum import StrEnum


class UnreadableReason(StrEnum):
    """Why a stored provider key cannot be opened. For the log and the metric alone: a caller that could tell
    them apart would have an oracle."""

    FORMAT = "format"  # no envelope, or of a format that this release does not know
    ALGORITHM = "algorithm"  # likewise of its algorithm
    COMMITMENT = "commitment"  # another data key, or its commitment or nonce was changed
    CONTENT = "content"  # the ciphertext was changed, or stands where it does not belong
    DEK_MISSING = "dek_missing"  # its data key is not among the tenant's
    DEK_REFUSED = "dek_refused"  # the KEK refuses the wrapped data key or its encryption context
    KEK_UNKNOWN = "kek_unknown"  # the data key was wrapped by a KEK that is not configured
    KEK_MISSING = "kek_missing"  # the KMS does not know the KEK
    KEK_DISABLED = "kek_disabled"
    KEK_PENDING_DELETION = "kek_pending_deletion"
    KEK_DENIED = "kek_denied"  # the KMS does not let this gateway use the KEK
    KEK_FAULT = "kek_fault"  # the KMS answered with something else, which the log has
