"""What a probe cannot be told ends it: one line a fault, status 78, and never a traceback.

Real processes, as a service manager starts them. Each file holds one bad value for every directive or key,
the next file the next ones; each fault must stand at its line. What is merely odd the readers' own tests try.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import correlator
from correlator.config.portsentry_lines import DIRECTIVES

ROOT = Path(correlator.__file__).resolve().parents[1]
DEBIAN = (ROOT / "tests/golden/portsentry/portsentry.conf").read_text().splitlines(keepends=True)
HUGE = "9" * 900
LONG = "x" * 2000
NUMBERS = ("", "yes", "-1", HUGE, "1;id", "\x1b[31m", "\u0661", "0x1")
PORTS = ("abc", "70000", HUGE, "1-", "5-1", "1;id", "1,\x1b[31m", "\u0661")
FILES = ("", "relative", "/\x01", "/\u00fc", f"/{LONG}")
TEXTS = ("\x1b[31m$TARGET$", "caf\u00e9 $TARGET$", f"$TARGET$ {LONG}", 'a "$TARGET$"')
RESPONSES = ("no target", *TEXTS)
BAD_DIRECTIVES: dict[str, tuple[str, ...]] = {
    "TCP_PORTS": (*PORTS, "0", ""),
    "UDP_PORTS": (*PORTS, "0", ""),
    "ADVANCED_PORTS_TCP": (*NUMBERS, "0", "65537"),
    "ADVANCED_PORTS_UDP": (*NUMBERS, "0", "65537"),
    "ADVANCED_EXCLUDE_TCP": PORTS,
    "ADVANCED_EXCLUDE_UDP": PORTS,
    "IGNORE_FILE": FILES,
    "HISTORY_FILE": FILES,
    "BLOCKED_FILE": FILES,
    "RESOLVE_HOST": NUMBERS,
    "BLOCK_TCP": (*NUMBERS, "3"),
    "BLOCK_UDP": (*NUMBERS, "3"),
    "KILL_ROUTE": RESPONSES,
    "KILL_HOSTS_DENY": RESPONSES,
    "KILL_RUN_CMD": TEXTS,
    "KILL_RUN_CMD_FIRST": (*NUMBERS, "2"),
    "SCAN_TRIGGER": (*NUMBERS, "51"),
    "PORT_BANNER": TEXTS,
}
"""What stands between the quotes."""

TRUTHS = ('"yes"', "1", "[]", "2026-01-01")
AMOUNTS = ('""', '"5"', "-1", "1.5", "nan", f"0x{HUGE}", "[1]")
LISTS = ("7", '"atcp"', "[7]", '["\\u001b[31m"]', '[["a"]]')
RANGES = ('"abc"', '"70000"', "-1", '"5-1"', "[1.5]", f"0x{HUGE}", '"1;id"', '"\\u001b[31m"', f'"{LONG}"')
BAD_KEYS = {
    "modes": (*LISTS, "[]", '["xtcp"]', f'["{LONG}"]'),
    "tcp_ports": (*RANGES, '""', "[]"),
    "udp_ports": (*RANGES, '""', "[]"),
    "exclude_tcp": RANGES,
    "exclude_udp": RANGES,
    "tcp_list": (*RANGES, '""'),
    "udp_list": (*RANGES, '""'),
    "interfaces": (*LISTS, '["a/b"]', '[""]', f'["{LONG}"]', str(["e"] * 300)),
    "banner": ("7", "[]", f'"{LONG}"', f'"{chr(0xFC) * 600}"'),
    "hidden_scans": TRUTHS,
    "compat": TRUTHS,
    "scan_trigger": (*AMOUNTS, "51"),
    "resolve_names": TRUTHS,
    "lines_a_second": (*AMOUNTS, "0", "1000001"),
    "linger": ('""', '"5x"', "-1", "1.5", '"-5s"', '"2d"', f"0x{HUGE}", f'"{HUGE}s"'),
    "syslog": TRUTHS,
    "echo": ("true", '"yes"', '"\\u001b[31m"', f'"{LONG}"'),
    "nflog": ('"abc"', "-1", "[70000]", "[1.5]", f"[{HUGE}]", "true"),
    "no_such_key": ("1", f'"{LONG}"', '"\\u001b[31m"'),
}
BAD_FILES = {
    "not TOML": b"[probe\n",
    "not UTF-8": b'[probe]\nbanner = "\xff\xfe"\n',
    "zeros": bytes(1000),
    "huge": b"#" * (2 << 20),
    "nested": b"[probe]\ntcp_ports = " + b"[" * 5000,
    "a number without end": b"[probe]\nlinger = " + b"9" * 5000,
    "a table of another kind": b"probe = 7\n",
    "a list of tables": b"[[probe]]\n",
}


def refuse(config: Path, *options: str) -> list[str]:
    """Start a probe; return what it says on standard error when it ends at once with status 78."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "correlator", "probe", *options, "--config", str(config)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )
    said = done.stderr.decode()
    assert (done.returncode, done.stdout, "Traceback" in said) == (78, b"", False), said
    lines = said.removeprefix("portward probe: ").splitlines()
    assert [line for line in lines if not line.isprintable()] == []
    return lines


FAULT = re.compile(
    r"(?P<where>.*?)(?::(?P<line>\d+))?: (?P<key>\S+): got (?P<got>.+), expected (?P<expected>.+)"
)


def read_faults(lines: list[str], path: Path) -> dict[str, str]:
    """By place, as `LINE` or ``: which key is at fault; every line must be a fault of this file."""
    found = [FAULT.fullmatch(line) for line in lines]
    assert [line for line, match in zip(lines, found, strict=True) if match is None] == []
    matches = [match for match in found if match is not None]
    assert {match["where"] for match in matches} == {str(path)}
    assert max(map(len, lines)) < 1000
    return {match["line"] or "": match["key"] for match in matches}


def test_every_directive_and_every_key_is_tried() -> None:
    """A new one needs its line in the tables above."""
    assert set(BAD_DIRECTIVES) == set(DIRECTIVES)
    shipped = (ROOT / "correlator/config/portward.toml").read_text()
    probe = shipped.partition("[probe]")[2].partition("\n[")[0]
    assert {*re.findall(r"(?m)^#(\w+) = ", probe), "no_such_key"} == set(BAD_KEYS)


@pytest.mark.parametrize("turn", range(max(map(len, BAD_DIRECTIVES.values()))))
def test_directives(tmp_path: Path, turn: int) -> None:
    """Absurd, huge, hostile: each fault at its line, all at once."""
    path = tmp_path / "portsentry.conf"
    values = {name: values[turn % len(values)] for name, values in BAD_DIRECTIVES.items()}
    path.write_text("".join(f'{name}="{value}"\n' for name, value in values.items()), encoding="utf-8")
    faults = read_faults(refuse(path, "-tcp", "-udp"), path)
    assert faults == {str(number): name for number, name in enumerate(values, start=1)}


@pytest.mark.parametrize("name", ["TCP_PORTS", "UDP_PORTS", "IGNORE_FILE", "HISTORY_FILE", "BLOCKED_FILE"])
def test_a_directive_that_is_missing(tmp_path: Path, name: str) -> None:
    """What PortSentry cannot do without; ports in the modes that need them, whoever chose the modes."""
    path = tmp_path / "portsentry.conf"
    path.write_text("".join(line for line in DEBIAN if not line.startswith(f"{name}=")))
    assert read_faults(refuse(path, "-tcp", "-udp"), path) == {"": name}


@pytest.mark.parametrize("turn", range(max(map(len, BAD_KEYS.values()))))
def test_keys_of_the_probe(tmp_path: Path, turn: int) -> None:
    """Of another kind, out of range, huge, hostile: each fault at its line, all at once."""
    path = tmp_path / "portward.toml"
    values = {key: values[turn % len(values)] for key, values in BAD_KEYS.items()}
    text = "".join(f"{key} = {value}\n" for key, value in values.items())
    path.write_text(f"[probe]\n{text}", encoding="utf-8")
    faults = read_faults(refuse(tmp_path, "-tcp", "-udp", "-atcp", "-audp"), path)
    assert faults == {str(number): f"probe.{key}" for number, key in enumerate(values, start=2)}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_file_that_is_none(tmp_path: Path, what: str) -> None:
    """One fault of the settings; PortSentry's own file has one for each line that it passes over."""
    settings, conf = tmp_path / "portward.toml", tmp_path / "portsentry.conf"
    for path in (settings, conf):
        path.write_bytes(BAD_FILES[what])
    (key,) = read_faults(refuse(tmp_path), settings).values()
    assert key in ("file", "probe")
    assert read_faults(refuse(conf), conf)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "loop"])
def test_a_file_that_cannot_be_read(tmp_path: Path, kind: str) -> None:
    """Said, not waited for."""
    path = tmp_path / "portward.toml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    assert read_faults(refuse(tmp_path), path) == {"": "file"}
