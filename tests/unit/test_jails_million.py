"""A whole jail with a million sources, in a process of its own."""

import subprocess
import sys
from pathlib import Path

MADE, HELD = 1_050_000, 1_000_000
PROGRAM = f"""
import ipaddress, os
from pathlib import Path
from correlator.counting.jails import Jail, JailDefinition
from correlator.model import SECOND, Event, Evidence, parse_source

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

jail = Jail(
    JailDefinition(name="j", where="test", filters=("f",), threshold=5, span=600 * SECOND), max_sources={HELD}
)
before = resident()
for number in range({MADE}):
    first = 0x2001_0DB8 << 96 | number << 64 if number % 2 else 0x0B00_0000 + number
    at, source = 10**15 + number, parse_source(str(ipaddress.ip_address(first)))
    event = Event(at, "f", "p", source, Evidence(at, "log", number, f"line {{number}} of {{source}}"))
    jail.judge(event, ignored_by=lambda source: None, is_denied=lambda source: False)
print(len(jail.windows), jail.windows.evicted, jail.counters.strikes, resident() - before)
"""


def test_a_million_sources_cost_less_than_300_mb():
    """Their lines included; half of them have IPv6. Who was idle longest left, and that is counted."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    held, evicted, strikes, used = map(int, done.stdout.split())
    assert (held, evicted, strikes) == (HELD, MADE - HELD, MADE)
    assert used < 300_000_000
