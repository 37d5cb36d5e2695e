"""What a picture comes to at most, for the models whose vendors say so.

Pure. No table has these. A model that is not here gets no bound: a picture in its input holds
the whole context window, and a picture that it makes by tokens is refused under a cap unless its
answer is bounded in another way.
"""

import re
from typing import Final

# Sources: platform.openai.com/docs/guides/images-vision (tiles: a base and 8 tiles at most, since
# the short side becomes 768 and the long one 2,048 pixels; patches: 1,536 times the model's
# factor), docs.anthropic.com/en/docs/build-with-claude/vision (4,784 at high resolution, and a
# little for the frame around it). Rounded up.
_SEEN: Final = (
    (re.compile(r"gpt-4o-mini(-\d{4}-\d\d-\d\d)?"), 48_200),  # 2,833 + 8 × 5,667
    (re.compile(r"(gpt-4o|gpt-4\.1|gpt-4-turbo)(-\d{4}-\d\d-\d\d)?"), 1_500),  # 85 + 8 × 170
    (re.compile(r"(o1|o1-pro|o3)(-\d{4}-\d\d-\d\d)?"), 1_300),  # 75 + 8 × 150
    (re.compile(r"gpt-5(-\d{4}-\d\d-\d\d)?"), 1_200),  # 70 + 8 × 140
    (re.compile(r"(gpt-4\.1|gpt-5)-(mini|nano)(-\d{4}-\d\d-\d\d)?|o4-mini(-\d{4}-\d\d-\d\d)?"), 3_800),  # 1,536 × 2.46
    (re.compile(r"([a-z-]+\.)?(anthropic\.)?claude-.*"), 5_000),
)
# Source: platform.openai.com/docs/guides/image-generation: 6,240 tokens for a tall picture of high
# quality; a streamed one adds 100 for each of its three partial pictures.
_MADE: Final = ((re.compile(r"gpt-image-1(-mini)?"), 6_600),)


def image_tokens_max(model: str) -> int | None:
    """The most tokens that one picture in the input is counted as."""
    return next((tokens for pattern, tokens in _SEEN if pattern.fullmatch(model)), None)


def picture_tokens_max(model: str) -> int | None:
    """The most tokens that making one picture is counted as."""
    return next((tokens for pattern, tokens in _MADE if pattern.fullmatch(model)), None)
