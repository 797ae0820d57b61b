"""Two of each process, a process without its right, and one whose other end has gone."""

from collections.abc import Callable

import pytest

from correlator.drill.lab import SCANNER4
from correlator.drill.scanner import Scanner
from tests.faults.hosts import Host

pytestmark = pytest.mark.netns

WITHOUT = 'set -- setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all "$@"'


def test_a_second_one_of_each_says_who_is_there(make_host: Callable[..., Host]) -> None:
    """Exit status 75, as a service manager understands it; the first works on."""
    host = make_host().start_all()
    names = {"enforce": "enforcer", "correlate": "correlator", "probe": "probe in mode atcp"}
    for command, name in names.items():
        status, said = host.refuse(command)
        first = host.children[command].pid
        assert status == 75
        assert said.startswith(
            f"portward {command}: another {name} runs here already, process {first} (lock file {host.folder}/"
        )
    assert {name: child.poll() for name, child in host.children.items()} == dict.fromkeys(names)


@pytest.mark.parametrize(
    ("command", "missing"), [("enforce", "CAP_NET_ADMIN"), ("probe", "CAP_NET_RAW"), ("run", "CAP_NET_ADMIN")]
)
def test_without_its_right_a_process_names_it(
    make_host: Callable[..., Host], command: str, missing: str
) -> None:
    """Root whose capabilities somebody took away, as in a container."""
    status, said = make_host().refuse(command, WITHOUT)
    assert status == 77
    assert missing in said
    assert "Traceback" not in said


def test_the_correlator_needs_no_right(make_host: Callable[..., Host]) -> None:
    """It starts, reads and decides without any."""
    host = make_host()
    host.start("correlate", WITHOUT)
    assert host.end("correlate") == 0


def test_what_was_decided_without_an_enforcer_is_carried_out_later(
    make_host: Callable[..., Host], wait_until: Callable[..., None]
) -> None:
    """Gone while the correlator decides, and back: each decision is carried out, once."""
    host = make_host().start_all()
    sources = [f"192.0.2.{number}" for number in range(30, 36)]
    host.lab.add_scanner_address(*sources)
    with Scanner(host.lab) as scanner:
        host.kill("enforce")
        for source in sources:
            scanner.send_tcp(79, source=source)
        wait_until(lambda: host.rig.ask("status")["correlator"]["waiting"] == len(sources))
        assert host.rig.denied() == {}
        host.start("enforce")
        wait_until(lambda: set(host.rig.denied()) == set(sources), 20)
        scanner.send_tcp(79)
        wait_until(lambda: SCANNER4 in host.rig.denied())
    history = [block["source"] for block in host.rig.ask("history")["blocks"]]
    assert sorted(history) == sorted((*sources, SCANNER4))
    wait_until(lambda: host.rig.ask("status")["correlator"]["waiting"] == 0)
