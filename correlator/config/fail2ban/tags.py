"""Puts values in place of `<tag>`, innermost first, so that `<mdre-<mode>>` becomes `<mdre-normal>` first.

Unknown tags stay as they are: `<HOST>`, `<ip>`, a shell's redirections. A tag that contains itself, or that
is put in more than 25 times into one value, loses what it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_TAG = re.compile(r"<([^ <>]+)>")
_MOST_TIMES = 25
_LONGEST_VALUE = 1 << 18


class TagError(ValueError):
    """A value whose tags never come to an end."""


def replace_tags(value: str, look_up: Callable[[str], str | None]) -> str:
    """Return `value` with every tag that `look_up` knows replaced, also in what was put in.

    Raises: TagError.
    """
    times: dict[str, int] = {}
    position = 0
    while found := _TAG.search(value, position):
        tag = found[1]
        text = look_up(tag)
        if text is None:
            position = found.start() + 1
            continue
        times[tag] = times.get(tag, 0) + 1
        if times[tag] > _MOST_TIMES or f"<{tag}>" in text:
            raise TagError(f"<{tag}> contains itself, or comes more than {_MOST_TIMES} times")
        if len(value) + len(text) > _LONGEST_VALUE:
            raise TagError(f"longer than {_LONGEST_VALUE} characters with <{tag}>")
        value = value[: found.start()] + text + value[found.end() :]
        position = found.start()
        # the tag may be the inner one of another: `<a-<b>>` goes on at the outer's beginning
        outer = value.rfind("<", 0, position)
        if outer >= 0 and ">" not in value[outer:position]:
            position = outer
    return value
