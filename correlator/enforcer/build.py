"""Makes the actions that run out of their definitions."""

from __future__ import annotations

from collections.abc import Iterable

from correlator.actions import ActionDefinition, Order
from correlator.enforcer.action import Action, Ended, Ending, Result
from correlator.enforcer.command import CommandAction
from correlator.enforcer.hosts_deny import HostsDeny
from correlator.enforcer.runner import Runner
from correlator.model import Micros


class Record:
    """Does nothing: the block stands in history and blocked file, as PortSentry's does with BLOCK_TCP="0"."""

    denies = True
    is_quick = True
    expires_by_itself = True
    can_release = True

    def __init__(self, definition: ActionDefinition) -> None:
        self.name = definition.name
        self.says = definition.says

    def block(self, order: Order, now: Micros, ended: Ended, *, is_again: bool = False) -> None:
        """Nothing is to be done."""
        del order, now, is_again
        ended(Result(Ending.DONE))

    def release(self, order: Order, now: Micros, ended: Ended) -> None:
        """Nothing is to be undone."""
        del order, now
        ended(Result(Ending.DONE))

    def trace(self, order: Order) -> str:
        """Nothing is left behind."""
        del order
        return ""


def build_actions(definitions: Iterable[ActionDefinition], runner: Runner) -> dict[str, Action]:
    """Return the actions by name; the kernel's own set, which needs more, is made elsewhere."""
    actions: dict[str, Action] = {}
    for definition in definitions:
        match definition.kind:
            case "command":
                actions[definition.name] = CommandAction(definition, runner)
            case "hosts-deny":
                actions[definition.name] = HostsDeny(definition)
            case "record":
                actions[definition.name] = Record(definition)
            case _:
                pass
    return actions
