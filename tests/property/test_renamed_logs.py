"""Whatever is renamed, written late or restarted in between: no line of a log is handed out twice."""

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tailed_site import TailedSite

PATTERNS = ["*", "*.log*", "a.log*", "?.log"]
STEPS = st.one_of(
    st.sampled_from(["write", "write", "rotate", "keep as old", "restart"]),
    st.sampled_from(["a.log.1", "a.log.2", "a.log.old"]),  # written to after it was renamed
    st.sampled_from([0.1, 1, 3, 12, 70]),  # seconds later it is looked at
)


def _rename(folder, old, new):
    if (folder / old).exists():
        (folder / old).rename(folder / new)


def _rotate(folder):
    for number in (4, 3, 2, 1):
        _rename(folder, f"a.log.{number}", f"a.log.{number + 1}")
    _rename(folder, "a.log", "a.log.1")


@given(pattern=st.sampled_from(PATTERNS), steps=st.lists(STEPS, max_size=30))
def test_no_line_is_handed_out_twice(pattern, steps):
    """Under its first name or another, by whichever of the tailers, before a restart or after it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = TailedSite(folder)
        site.start({pattern: ("x",)})
        got = site.read(0)
        for number, step in enumerate([*steps, 3, 3, 15, 70, 70]):
            if step == "restart":
                site.start({pattern: ("x",)})
            elif step == "rotate":
                _rotate(folder)
            elif step == "keep as old":
                _rename(folder, "a.log", "a.log.old")
            elif step == "write" or (isinstance(step, str) and (folder / step).exists()):
                site.write("a.log" if step == "write" else step, f"{number}\n")
            elif not isinstance(step, str):
                got += site.read(step)
        site.close()
    lines = Counter(line for _name, text in got for line in text.split())
    assert [line for line, times in lines.items() if times > 1] == []
