"""Writes down what the kernel denies after our own memory of it was damaged: nobody is let go for that.

What asked for these blocks, and what other actions did for them, is lost; their ends are not. A source that
is never to be blocked is released at the next look as any other is.
"""

from __future__ import annotations

from correlator.enforcer.keeping import BackendError, Keeping
from correlator.model import Micros
from correlator.store.blocks import BlockStore, NewBlock

JAIL = "recovered"
_REASON = "denied by the kernel when the database was found to be damaged"


def adopt(store: BlockStore, kernel: Keeping, now: Micros) -> int:
    """Put what the kernel denies into a store begun anew, its history lines as written; return how many.

    None where the kernel cannot be read. Raises: sqlite3.Error where the disk would not.
    """
    try:
        held = kernel.held(now)
    except BackendError:
        return 0  # who enforces is told so in the next step
    numbers = []
    known = {row.source for row in store.in_force()}  # of a death in the middle of this
    for source, until in held.items():
        if source in known:
            continue
        block = NewBlock(
            request=f"{JAIL}:{source}:{now}",
            source=source,
            jail=JAIL,
            created=now,
            until=until,
            port=0,
            protocol="",
            reason=_REASON,
            actions=(kernel.name,),
        )
        numbers.append(store.request(block))
        store.mark_done(numbers[-1], now=now)
    store.mark_written(numbers)
    store.mark_adopted()
    return len(numbers)
