"""What undoes a command that denies a source, and what asks whether it stands: for those that people use.

Known are iptables, ip6tables, ipchains, route, ip route, ip rule, ipset, nft and firewall-cmd, also several
joined by `&&` or `;`. A command that is not surely understood has no opposite, and a form of one whose effect
cannot surely be asked for has no question. Pure.
"""

from __future__ import annotations

import os
import re
import shlex

TARGET = "$TARGET$"

_ADDS = {"-I": "-D", "-A": "-D", "--insert": "--delete", "--append": "--delete"}
_SHELL = re.compile(r"[|&;<>()`\n]")
_PLAIN = re.compile(r"(?:[\w@%+=:,./!-]|\$(?:TARGET|PORT|MODE|VERSION)\$)+", re.ASCII)
_SEPARATORS = re.compile(r"&&|;")
_IP_VERBS = ("add", "replace", "append")
_ROUTE_TYPES = ("unreachable", "blackhole", "prohibit")


def undo_route(command: str) -> str:
    """Return the command that takes back what `command` does, or nothing where that is not known."""
    undone: list[str] = []
    for words in _parts(command):
        opposite = _undo_one(words)
        if not opposite:
            return ""
        undone.insert(0, " ".join(map(_quote, opposite)))
    return "; ".join(undone)


def ask_route(command: str) -> str:
    """Return the command whose status is 0 where all that `command` does stands, 1 where some is missing.

    Nothing where no such question is known: of ipchains, or of what has no opposite.
    """
    asked: list[str] = []
    for words in _parts(command):
        question = _ask_one(words) if _undo_one(words) else ""
        if not question:
            return ""
        asked.append(question)
    return " && ".join(asked)


def _parts(command: str) -> list[list[str]]:
    """Return the words of each command of a line; without any where the shell would do more with it."""
    parts = []
    for part in _SEPARATORS.split(command):
        if not part.strip():
            continue
        try:
            words = [] if _SHELL.search(part) else shlex.split(part)
        except ValueError:
            words = []
        parts.append(words)
    return parts


def _undo_one(words: list[str]) -> list[str]:
    if len(words) < 3:
        return []
    program = os.path.basename(words[0])
    if _is_chains(program) or program == "ipchains":
        return _with_rule(words, _ADDS)
    if program == "route" and words[1] == "add":
        return [words[0], "del", *words[2:]]
    if program == "ip" and (index := _ip_verb(words)):
        return [*words[:index], "del", *words[index + 1 :]]
    if program == "ipset" and words[1] in ("add", "-A", "--add"):
        return [words[0], "del", *words[2:4]]
    if program == "nft" and words[1:3] == ["add", "element"]:
        return [words[0], "delete", *words[2:]]
    if program == "firewall-cmd":
        found = [re.sub(r"^--add-", "--remove-", word) for word in words]
        return found if found != words else []
    return []


def _ask_one(words: list[str]) -> str:
    program = os.path.basename(words[0])
    if _is_chains(program):
        return _spell(_with_rule(words, dict.fromkeys(_ADDS, "-C")))
    if program == "route":
        is_host = words[2:4] == ["-host", TARGET]
        return _prints(["ip", "-4", "route", "show", "exact", TARGET]) if is_host else ""
    if program == "ip":
        return _ask_ip(words)
    if program == "ipset":
        return _spell([words[0], "-q", "test", *words[2:4]])
    if program == "nft":
        is_lone = "".join(words[6:]) == f"{{{TARGET}}}"
        return _spell([words[0], "get", *words[2:]]) if is_lone else ""
    found = [re.sub(r"^--add-", "--query-", word) for word in words if not word.startswith("--timeout")]
    is_lone = sum(word.startswith("--query-") for word in found) == 1
    return _spell([found[0], "--quiet", *found[1:]]) if is_lone and "--permanent" not in words else ""


def _ask_ip(words: list[str]) -> str:
    """Return the question about a route of exactly the source, or a rule from or to it."""
    index = _ip_verb(words)
    told = words[index + 1 :]
    table = ["table", told[told.index("table") + 1]] if "table" in told[:-1] else []
    show = [words[0], "-$VERSION$"]
    if "rule" in words[:index]:
        is_known = told[:2] in (["from", TARGET], ["to", TARGET])
        return _prints([*show, "rule", "show", *told[:2]]) if is_known else ""
    kind = ["type", told.pop(0)] if told and told[0] in _ROUTE_TYPES else []
    return _prints([*show, "route", "show", *table, *kind, "exact", TARGET]) if told[:1] == [TARGET] else ""


def _ip_verb(words: list[str]) -> int:
    """Return where `add` or its like stands in a command of ip(8) about routes or rules; 0 where nowhere."""
    return _index(words, *_IP_VERBS) if set(words) & {"route", "rule"} else 0


def _with_rule(words: list[str], instead: dict[str, str]) -> list[str]:
    """Return the command about a rule that was put in, without its number: that may differ by then."""
    index = _index(words, *_ADDS)
    if not index or index + 1 >= len(words):
        return []
    rest = words[index + 2 :]
    if rest and rest[0].isdigit():
        rest = rest[1:]
    return [*words[:index], instead[words[index]], words[index + 1], *rest]


def _is_chains(program: str) -> bool:
    return program.startswith(("iptables", "ip6tables"))


def _index(words: list[str], *wanted: str) -> int:
    """Return where the first of `wanted` stands; 0 where none does."""
    return next((index for index, word in enumerate(words) if index and word in wanted), 0)


def _prints(words: list[str]) -> str:
    """Return the test whether a command prints anything; it fails as the command where that fails."""
    return f'found=$({_spell(words)}) && test -n "$found"'


def _spell(words: list[str]) -> str:
    return " ".join(map(_quote, words))


def _quote(word: str) -> str:
    """Return a word as the shell takes it back; tokens stay tokens."""
    return word if _PLAIN.fullmatch(word) else shlex.quote(word)
