"""How far a tenant's rows have been exported, and who may go on.

Pure. A store keeps the cursor and moves it in the step that lets the rows go, so that a row is
in the store, or beyond the cursor in the sink, whatever crashes between two steps.
"""

from typing import NamedTuple

NO_HASH = "0" * 64  # what stands before a chain's first page


class Cursor(NamedTuple):
    """The end of what was exported.

    A series is a stretch of growing positions. A store that was emptied begins them anew, and
    the chain goes on in the next series.
    """

    position: int = 0  # of the last row that was exported
    pages: int = 0  # the last page's number
    page_hash: str = NO_HASH  # the last page's, in hexadecimal
    series: int = 1


class Claim(NamedTuple):
    """The right to export one tenant's rows, until it runs out.

    The fence grows each time that the right changes hands: a holder who slept too long is known
    by an older one.
    """

    tenant_id: str
    fence: int
    cursor: Cursor


class Backlog(NamedTuple):
    """What of one tenant waits in the store."""

    tenant_id: str
    rows: int
    unexported_bytes: int  # roughly: what the rows take up there
