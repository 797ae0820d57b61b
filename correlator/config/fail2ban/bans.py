"""Says which of our actions does what an action of Fail2ban does, and how long its bans last with us."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from correlator.config.fail2ban.jail_file import is_true
from correlator.config.fail2ban.references import Reference
from correlator.config.fail2ban.times import parse_time
from correlator.model import SECOND, Micros

MOST_STEPS = 16
"""Lengths of one jail's escalation, as our settings take them."""
_ACTIONS = (
    (re.compile(r"nftables(?:-.*)?"), "nftables"),
    (re.compile(r"(?:iptables-ipset|iptables-ipset-proto\d.*|shorewall-ipset.*)"), "ipset"),
    (re.compile(r"iptables(?:-.*)?"), "iptables"),
    (re.compile(r"hostsdeny"), "hosts-deny"),
    (re.compile(r"ufw"), "ufw"),
    (re.compile(r"firewallcmd-.*"), "firewalld"),
    (re.compile(r"route"), "route"),
    (re.compile(r"shorewall"), "shorewall"),
    (re.compile(r"pf"), "pf"),
    (re.compile(r"(?:bsd-)?ipfw"), "ipfw"),
    (re.compile(r"dummy"), "record"),
)
_HARMLESS = frozenset({"name", "actname", "port", "protocol", "chain", "bantime", "lockingopt", "type"})
_WAYS_TO_DENY = frozenset({"blocktype", "rejecttype", "rich-blocktype", "block", "target"})
_DENIES = re.compile(r"(?i)(?:drop|reject|deny|blackhole|unreachable|prohibit)\b")
_ADMITS = re.compile(r"(?i)(?:return|accept|allow)\b")
_ONLY_LOGS = re.compile(r"iptables-(?:xt_recent-echo|multiport-log)")
_EXPONENT = re.compile(
    r"ban\.Time\*math\.exp\(float\(ban\.Count\+1\)\*banFactor\)/math\.exp\(1\*banFactor\)", re.IGNORECASE
)
_DEFAULT_FORMULA = re.compile(
    r"ban\.Time\*\(1<<\(ban\.Countifban\.Count<20else20\)\)\*banFactor", re.IGNORECASE
)
_MOST_DOUBLINGS = 20
_LONGEST: Micros = 3_155_760_000 * SECOND
"""A hundred years: what is longer is for ever."""


def lets_in(reference: Reference) -> bool:
    """Whether an action's parameters turn it around: whom it "bans" may pass, everybody else may not."""
    return any(
        name in _WAYS_TO_DENY and _ADMITS.match(value.strip()) for name, value in reference.parameters.items()
    )


def find_action(reference: Reference) -> str | None:
    """Return the name of our action that denies as this one does; None where it is to be run as it is.

    One with parameters that change what it does, as those that let a source in, is never one of ours.
    """
    if _ONLY_LOGS.fullmatch(reference.name):
        return None
    for name, value in reference.parameters.items():
        if name not in _HARMLESS and not (name in _WAYS_TO_DENY and _DENIES.match(value)):
            return None
    return next((ours for form, ours in _ACTIONS if form.fullmatch(reference.name)), None)


def escalation(options: Mapping[str, str], ban: Micros) -> tuple[tuple[Micros, ...], list[str]]:
    """Return how long the first, second, ... ban of a source lasts, each longer than the one before it.

    Also returns what of it could not be carried over. Empty: all bans last alike.
    """
    if not is_true(options.get("bantime.increment", "")) or ban <= 0:
        return (), []
    lost = []
    longest = parse_time(options.get("bantime.maxtime", "")) or _LONGEST
    factor = _number(options.get("bantime.factor", "")) or 1.0
    formula = "".join(options.get("bantime.formula", "").split())
    if formula and not (_EXPONENT.fullmatch(formula) or _DEFAULT_FORMULA.fullmatch(formula)):
        lost.append(
            f"bantime.formula: a program of its own is not run: bans double instead of {formula[:60]!r}"
        )
    for option in ("bantime.rndtime", "bantime.overalljails"):
        text = options.get(option, "").strip()
        if text and text != "0" and (option != "bantime.overalljails" or is_true(text)):
            lost.append(f"{option}: {_WHY[option]}")
    lengths: list[Micros] = []
    for wanted in _lengths(ban, factor, options.get("bantime.multipliers", ""), formula):
        length = min(wanted, longest)
        if lengths and length <= lengths[-1]:
            break
        lengths.append(length // SECOND * SECOND)
        if len(lengths) == MOST_STEPS:
            break
    return (tuple(lengths) if len(lengths) > 1 else ()), lost


_WHY = {
    "bantime.rndtime": "lengths are exact, so that a replay decides the same",
    "bantime.overalljails": "each jail remembers its own bans",
}


def _lengths(ban: Micros, factor: float, multipliers: str, formula: str) -> Iterator[Micros]:
    yield ban
    given = [_number(text) for text in multipliers.split()]
    known = [number for number in given if number is not None]
    for count in range(1, MOST_STEPS):
        if known:
            yield round(ban * known[min(count, len(known) - 1)] * factor)
        elif _EXPONENT.fullmatch(formula):
            exponent = (count + 1) * factor - factor
            yield round(ban * math.exp(min(exponent, 50.0)))
        else:
            yield max(ban, round(ban * (1 << min(count, _MOST_DOUBLINGS)) * factor))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None
