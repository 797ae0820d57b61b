"""The action `nftables`: what the kernel should hold, what it holds, and making the two equal.

Belief and kernel change together. What the kernel would not take is not believed; what somebody else
changed there is found by comparison and mended. Rules, tables and messages are the backend's business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping

from correlator.actions import Order
from correlator.enforcer.action import Ended, Ending, Result
from correlator.enforcer.backend import Backend
from correlator.enforcer.plans import Belief, Change, Until, compare, kernel_view, outlasts, plan_change
from correlator.enforcer.protocol import Mend
from correlator.errors import KernelError, MissingToolError, PermissionDeniedError
from correlator.model import Micros, Source

BackendError = (KernelError, MissingToolError, PermissionDeniedError)


class Keeping:
    """Belief about one firewall and the firewall itself; `tell` hears of what had to be mended on the way."""

    denies = True
    is_quick = True
    expires_by_itself = True
    can_release = True
    says = ""

    def __init__(self, backend: Backend, *, is_enforcing: bool, tell: Callable[[Mend], None]) -> None:
        self.name = backend.name
        self.table = "absent"
        self.trouble = ""
        """What was wrong the last time; empty once it worked again."""
        self._backend = backend
        self._is_enforcing = is_enforcing
        self._tell = tell
        self._belief = Belief()

    def __len__(self) -> int:
        return len(self._belief)

    def status(self) -> dict[str, str]:
        """Return its state by name."""
        return {"backend": self.name, "table": self.table, "trouble": self.trouble}

    def check(self) -> None:
        """Raise where the backend cannot work on this host."""
        self._backend.check()

    def held(self, now: Micros) -> Mapping[Source, Until]:
        """Return what the kernel denies, whatever is believed. Raises: KernelError and its like."""
        return self._backend.list(now=now).elements

    def believe(self, ends: Iterable[tuple[Source, Until]]) -> None:
        """Take belief from somewhere else, the kernel left as it is."""
        self._belief = Belief(ends)

    def block(self, order: Order, now: Micros, ended: Ended, *, is_again: bool = False) -> None:
        """Deny one source, never shorter than it is denied already; see `Action`."""
        del is_again  # the kernel takes the same element twice
        if order.source in self._belief and outlasts(self._belief[order.source], order.until):
            ended(Result(Ending.DONE))
            return
        try:
            self.put({order.source: order.until}, (), now)
        except BackendError as exc:
            ended(Result(Ending.FAILED, str(exc)))
        else:
            ended(Result(Ending.DONE))

    def release(self, order: Order, now: Micros, ended: Ended) -> None:
        """Deny one source no longer; see `Action`."""
        try:
            self.carry_out(self.forget([order.source]), now)
        except BackendError as exc:
            ended(Result(Ending.FAILED, str(exc)))
        else:
            ended(Result(Ending.DONE))

    def trace(self, order: Order) -> str:
        """Return the element."""
        return str(order.source)

    def put(self, put: Mapping[Source, Until], drop: Iterable[Source], now: Micros) -> None:
        """Deny `put` until their ends and `drop` no longer; belief is as before where the kernel would not.

        Raises: KernelError and its like.
        """
        dropped = tuple(source for source in drop if source in self._belief)
        change = plan_change(self._belief, put, dropped)
        before = {source: self._belief[source] for source in (*put, *dropped) if source in self._belief}
        for source in dropped:
            self._belief.drop(source)
        for source, until in put.items():
            self._belief.put(source, until)
        try:
            self.carry_out(change, now)
        except BaseException as exc:
            for source in put:
                self._belief.drop(source)
            for source, until in before.items():
                self._belief.put(source, until)
            if isinstance(exc, BackendError):
                self.trouble = str(exc)
            raise

    def forget(self, sources: Iterable[Source]) -> Change:
        """Believe no longer that these are denied; return what is left to do in the kernel."""
        gone = [source for source in sources if source in self._belief]
        change = plan_change(self._belief, {}, gone)
        for source in gone:
            self._belief.drop(source)
        return change

    def carry_out(self, change: Change, now: Micros) -> None:
        """Change the kernel; where it does not hold what we believe, compare and mend all.

        Raises: KernelError and its like.
        """
        if not change.add and not change.remove:
            return
        try:
            self._backend.block(change.add, change.remove, now=now)
        except (MissingToolError, PermissionDeniedError) as exc:
            self.trouble = str(exc)
            raise
        except KernelError:
            # The table may be gone, or not be there yet, or hold what a hand put there.
            was_there = self.table != "absent"
            mend = self.mend(now)
            if was_there and (mend.table != "intact" or mend.size > len(change.add) + len(change.remove)):
                self._tell(mend)

    def sync(self, now: Micros, *, is_thorough: bool) -> Mend:
        """Compare and mend; without `is_thorough` not as long as surely nobody touched any rule.

        Raises: KernelError and its like where the kernel cannot be read or mended.
        """
        try:
            is_needed = is_thorough or not self._backend.is_untouched()
            return self.mend(now) if is_needed else Mend(self.table)
        except BackendError as exc:
            self.trouble = str(exc)
            raise

    def mend(self, now: Micros) -> Mend:
        """Make the kernel hold what is believed; return what that took."""
        desired = kernel_view(self._belief)
        listing = self._backend.list(now=now)
        if listing.table == "missing" and not desired and not self._is_enforcing:
            self.table = "absent"
            return Mend("absent")
        if listing.table != "intact":
            self._backend.restore(desired.items(), now=now)
            mend = Mend(listing.table, added=len(desired), detail=listing.detail)
        else:
            drift = compare(desired, listing.elements, now)
            mend = Mend("intact", len(drift.add), len(drift.remove), len(drift.refresh))
            if drift:
                moved = (source for source, _ in drift.refresh if not source.is_single)
                try:
                    self._backend.block((*drift.add, *drift.refresh), (*drift.remove, *moved), now=now)
                except KernelError:
                    self._backend.restore(desired.items(), now=now)
        self.table = "intact"
        self.trouble = ""
        return mend

    def drop(self, sources: Iterable[Source], now: Micros) -> None:
        """Deny these no longer, as far as that can be done now; belief is without them in any case."""
        with contextlib.suppress(*BackendError):  # the next comparison tries again, and says so
            self.carry_out(self.forget(sources), now)

    def end(self, sources: Iterable[Source], now: Micros) -> None:
        """Deny these no longer, whose time is over; single addresses at once, whatever the kernel says.

        It counts from the moment in which it took an element, which for many at once is later than we asked
        for. Prefixes it drops by itself: to take away what may be gone would be an error.
        """
        change = self.forget(sources)
        late = tuple(source for source in change.remove if source.is_single)
        with contextlib.suppress(*BackendError):  # the next comparison tries again, and says so
            self.carry_out(Change(remove=late), now)
