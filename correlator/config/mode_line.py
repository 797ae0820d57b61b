"""Changes the one line of a portward.toml that says whether anything is blocked; nothing else of it. Pure.

The file is the site's: its comments, its order and its spelling stay.
"""

from __future__ import annotations

import re
import tomllib

from correlator.errors import PortwardError

MODES = ("observe", "block")
_FIRST_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)
_MODE = re.compile(r"""^(?P<before>[ \t]*mode[ \t]*=[ \t]*)(?:"[^"\n]*"|'[^'\n]*')""", re.MULTILINE)


class ModeLineError(PortwardError):
    """The file is written in a way in which the line cannot be found; says what to do instead."""

    exit_status = 78  # EX_CONFIG


def write_mode(text: str, mode: str) -> str:
    """Return the settings file `text` with `mode = "..."` in it; the same text where it says so already.

    Raises: ModeLineError where the result would say anything else besides.
    """
    before = tomllib.loads(text)
    if before.get("mode", "observe") == mode:
        return text
    table = _FIRST_TABLE.search(text)
    end = table.start() if table else len(text)
    head, changes = _MODE.subn(rf'\g<before>"{mode}"', text[:end], count=1)
    if not changes:
        head += f'mode = "{mode}"\n\n' if not head or head.endswith("\n") else f'\nmode = "{mode}"\n\n'
    changed = head + text[end:]
    try:
        is_right = tomllib.loads(changed) == {**before, "mode": mode}
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:
        raise ModeLineError(f'the line with "mode" cannot be found: write mode = "{mode}" there by hand')
    return changed
