"""What the enforcer asks of any action: block, release, and how it ended, at once or later."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from correlator.actions import Order
from correlator.model import Micros, Source
from correlator.store.blocks import BlockRow, NewBlock


class Ending(enum.Enum):
    """How an action ended."""

    DONE = "done"
    EXISTS = "exists"
    """There before us, and not ours to take away."""
    FAILED = "failed"
    UNKNOWN = "unknown"
    """We died while it ran, and it may not be run twice; or it is not for such a source."""


@dataclass(frozen=True, slots=True)
class Result:
    """How an action ended, and in `detail` what was run or written, or why it failed."""

    ending: Ending
    detail: str = ""

    @property
    def is_success(self) -> bool:
        """True where the source is denied by this action now, or somebody was told."""
        return self.ending in (Ending.DONE, Ending.EXISTS)


Ended = Callable[[Result], None]


class Action(Protocol):
    """One way to deny sources or to tell somebody.

    `ended` is called exactly once for each order: before the method returns where `is_quick`, else later.
    The methods themselves raise nothing for what the world does.
    """

    name: str
    denies: bool
    is_quick: bool
    """True where an order takes less than a few milliseconds and is carried out on the spot."""
    expires_by_itself: bool
    """True where nothing has to be done when a block's time is over."""
    can_release: bool
    says: str

    def block(self, order: Order, now: Micros, ended: Ended, *, is_again: bool = False) -> None:
        """Carry out an order; `is_again` where an earlier try may have been carried out in part or whole."""

    def release(self, order: Order, now: Micros, ended: Ended) -> None:
        """Undo it; done as well where there is nothing to undo any more."""

    def trace(self, order: Order) -> str:
        """Return what carrying out this order leaves behind: to undo one of two equal ones undoes both."""


@runtime_checkable
class Finder(Protocol):
    """A quick action that can tell beforehand whether somebody else has done the same."""

    def finds(self, order: Order) -> bool:
        """True where what this order would leave behind is there; false where that cannot be seen."""


@dataclass(frozen=True, slots=True)
class Survey:
    """How what an action really denies differs from what it should."""

    missing: tuple[Order, ...] = ()
    extra: tuple[Source, ...] = ()
    """Denied by it, and not wanted; only where all that it denies is ours."""
    problem: str = ""
    """Why it could not be found out."""


Surveyed = Callable[[Survey], None]


@runtime_checkable
class Surveyor(Protocol):
    """An action that can say what it really denies."""

    can_survey: bool

    def survey(self, orders: Sequence[Order], now: Micros, surveyed: Surveyed) -> None:
        """Compare with what should be denied; `surveyed` is called once, at once or later."""

    def restore(self, orders: Sequence[Order], now: Micros, ended: Ended) -> bool:
        """Deny all of these at once; false, and nothing is done, where it has no way to."""

    def check(self, now: Micros, ended: Ended) -> None:
        """Find out whether it can work on this host."""


def order_of(row: BlockRow | NewBlock) -> Order:
    """Return what an action is told of a block."""
    return Order(
        request=row.request,
        source=row.source,
        jail=row.jail,
        created=row.created,
        until=row.until,
        port=row.port,
        protocol=row.protocol,
        mode=row.mode,
        name=row.name,
        reason=row.reason,
    )
