"""Who asks which filters there are reads no more of them than needed, and is answered as if all were read."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.cli import explain
from correlator.config.filter_shelf import FilterShelf
from correlator.config.reader import read_head
from correlator.config.site import load_site
from correlator.matching.filter_definition import FilterDefinition, is_named
from correlator.matching.filter_tests import make_line
from correlator.matching.filters import Filter
from correlator.model import Event

NOWHERE = Path("/nowhere")
NOW = 1_795_357_762_000_000
SHELF = FilterShelf(NOWHERE)
DEFINITIONS = {name: SHELF.read(name)[0] for name in sorted(SHELF.paths)}
PROGRAMS = sorted({program for one in DEFINITIONS.values() for program in one.identifiers} | {"", "nobody"})
FILTER = """
[[pattern]]
name  = "knock"
regex = '^knock from ${source}$'
"""


def test_heads_leave_out_no_filter_that_reads_a_program():
    """For every program that any shipped filter names, without what was parsed where we were built."""
    shelf = FilterShelf(NOWHERE)
    shelf._parsed.find = lambda _data: None
    for program in PROGRAMS:
        read = {name for name, one in DEFINITIONS.items() if is_named(program, one.identifiers)}
        assert {name for name in shelf.paths if shelf.may_read(name, program)} == read, program


@pytest.mark.parametrize(
    "head",
    [
        'identifiers = ["knockd"]',
        'identifiers = ["${who}"]\n[variables]\nwho = "knockd"',
        'identifiers = ["${all}"]\n[lists]\nall = ["x", "knockd"]',
        'identifiers = [\n  "x",\n  "knock*",\n]',
        '"identifiers" = ["\\u006bnockd"]',
        "description = '''\n[jail]\n'''\nidentifiers = [\"knockd\"]",
        'files = [\n"/var/log/a",\n]\nidentifiers = ["knockd"]\n[jail]\nthreshold = 3',
        'identifiers = ["k*k*"]',
    ],
)
def test_a_head_of_any_shape_is_understood(tmp_path, head):
    """However its author wrote it, a filter that reads the program is not left out."""
    (tmp_path / "knock.toml").write_text(f"{head}\n{FILTER}")
    shelf = FilterShelf(tmp_path)
    definition, faults = shelf.read("knock")
    assert faults == []
    assert is_named("knockd", definition.identifiers)
    assert shelf.may_read("knock", "knockd")


PLAIN = [
    "a = 1",
    'identifiers = ["x"]',
    '"c" = [ "[q]" ]',
    "e.f = 1",
    "g = { h = 1 }",
    "j = [[1]]",
    "",
    "#\n# [x]",
]
DECEPTIVE = ["b = [\n[1],\n]", "d = '''\n[x]\n'''", 'k = """\n [[x]]\nl = 1"""', 'm = [\n\t[ "n" ] ]']
"""Statements in which a line begins as a table does."""
TABLES = ["[t]", "[[u]]\nv = 1", "  [w]", "\t[[x]]", "[y.z]\na = '''\nb'''"]


@given(
    st.lists(st.sampled_from(PLAIN + DECEPTIVE), unique=True),
    st.lists(st.sampled_from(TABLES), unique=True),
)
def test_a_head_that_parses_is_all_that_stands_before_the_tables(statements, tables):
    """Whatever is cut off in the middle of a text or a list does not parse by itself."""
    before = "\n".join([*statements, ""])
    head = read_head((before + "\n".join(tables)).encode())
    assert head in (None, tomllib.loads(before))
    assert head is not None or set(DECEPTIVE) & {*statements}


NAMES = st.text(alphabet="ab*?[]!-", max_size=6)


@given(NAMES, st.lists(NAMES, max_size=3))
def test_a_program_has_a_name_where_the_filter_that_runs_wants_it(identifier, programs):
    """Only `*` stands for other text in it, whoever asks."""
    filter_ = Filter(FilterDefinition("x", "", "test", frozenset(programs), (), ()))
    assert is_named(identifier, programs) == filter_.wants(identifier)


def test_explain_names_the_same_filters_as_who_reads_them_all(tmp_path):
    """Its hint is made from few of them; here each is asked."""
    (tmp_path / "portward.toml").write_text('[jail.x]\nfilters = ["portsentry"]\n')
    site = load_site(tmp_path)
    running = {name: Filter(one) for name, one in DEFINITIONS.items() if name != "portsentry"}
    hinted = set()
    for definition in list(DEFINITIONS.values())[::6]:
        text = next(test.line for test in definition.tests if test.expect is not None and not test.before)
        expected = []
        for name, filter_ in running.items():
            filter_.forget()
            line = make_line(text, arrived=NOW, layout=filter_.layout)
            if filter_.wants(line.header.identifier) and isinstance(filter_.read(line), Event):
                expected.append(name)
        found = list(explain._not_enabled(site, text, NOW))
        assert found == expected, text
        hinted.update(found)
    assert len(hinted) > 9


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["filter", "list"], ["regex", "correlator.engine", "correlator.settings"]),
        (["check"], ["regex", "correlator.engine", "correlator.lines.syslog"]),
        (["explain", "nothing that anybody reads"], ["correlator.engine", "sqlite3", "socket"]),
    ],
)
def test_a_command_imports_nothing_that_it_does_not_need(tmp_path, arguments, absent):
    """What runs filters, and what judges events, take longer to import than these commands may take."""
    (tmp_path / "portward.toml").write_text(
        f'enabled = ["portsentry", "sshd"]\n[paths]\nstate = "{tmp_path}/state"\n'
    )
    site = load_site(tmp_path)
    proofs = site.paths.correlator_proofs
    proofs.parent.mkdir(parents=True)
    proofs.write_bytes(site.proofs.dump())
    proofs.chmod(0o640)
    code = (
        "import sys\n"
        "from correlator.cli import main\n"
        "main(sys.argv[1:])\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *arguments, "--config", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert {"correlator.config.filter_shelf"} <= set(done.stderr.split())
    assert set(absent) & set(done.stderr.split()) == set()
