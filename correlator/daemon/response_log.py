"""Writes PortSentry's lines about responses to where the probe writes its own: alert log and syslog."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable

from correlator.alerts.writer import AlertLog, Syslog, Writer
from correlator.config.site import Site
from correlator.daemon.responses import Responses
from correlator.enforcer.protocol import DeedEvent
from correlator.model import Block, Event
from correlator.settings import ProbeSettings


class ResponseLog:
    """The lines about what follows from probes. Never waits and never raises for what the outside does."""

    def __init__(self, probe: ProbeSettings, responses: Responses) -> None:
        self._responses = responses
        syslog = Syslog(probe.paths.syslog) if probe.to_syslog else None
        log = AlertLog(probe.paths.alert_log)
        self._writer = Writer(log, syslog, host=socket.gethostname())

    def denied(self, events: Iterable[Event]) -> None:
        """Write the line for each probe of a source that is denied already."""
        for event in events:
            self._write(self._responses.already_blocked(event))

    def decided(self, block: Block) -> None:
        """Write the line for a decision that is only reported."""
        self._write(self._responses.decided(block))

    def done(self, block: Block) -> None:
        """Write the line for a block that the kernel's own set carried out."""
        self._write(self._responses.done(block))

    def acted(self, deed: DeedEvent) -> None:
        """Write the lines about one action of a block."""
        self._write(self._responses.acted(deed))

    def flush(self) -> None:
        """Send what waits for a slow syslog, as far as it is taken."""
        self._writer.flush(time.time_ns(), time.monotonic_ns() // 1000)

    def close(self) -> None:
        """Give the descriptors back."""
        self._writer.close(time.monotonic_ns() // 1000)

    def _write(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._writer.write(line, time.time_ns(), time.monotonic_ns() // 1000)


def open_response_log(site: Site) -> ResponseLog | None:
    """Return where PortSentry's lines about responses go, None where they are not wanted."""
    if not site.correlator.response_lines:
        return None
    routes = [action.name for action in site.enforcer.actions if action.says == "route"]
    return ResponseLog(site.probe, Responses(site.probe.modes, routes))


def denying_actions(site: Site) -> set[str]:
    """Return the actions that deny something: a block by others only is an answer to its source."""
    others = {action.name for action in site.enforcer.actions if action.denies and action.kind != "record"}
    return {"nftables", *others}
