"""The action files of firewalld and Shorewall, carried out by the enforcer on the real ones: packets decide.

Both are unpacked and run in namespaces of the test. Nothing of the host is asked or changed.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from correlator.drill.lab import SCANNER4, SCANNER6, VICTIM4, VICTIM6, Lab
from correlator.model import OutcomeKind
from tests.netns.blocking import BOTH, PORT, ROOT, UNANSWERED, Site, WaitUntil
from tests.netns.victim import connect
from tests.peers.unpacked import Stage, why_not

pytestmark = pytest.mark.netns

BUS = """<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>"""


@pytest.fixture
def on_stage(lab: Lab, tmp_path: Path, wait_until: WaitUntil) -> Iterator[Callable[..., Site]]:
    """The function that starts programs on a stage and an enforcer beside them."""
    with ExitStack() as stack:

        def start(programs: str, begin: Callable[[Stage], None], *actions: str) -> Site:
            if reason := why_not(programs):
                pytest.skip(reason)
            stage = Stage(lab, tmp_path, programs)
            begin(stage)
            site = Site(lab, stage.popen, tmp_path, wait_until, *actions)
            site.stage = stage
            stack.callback(site.close)
            return site

        yield start


@pytest.fixture
def firewalld(on_stage: Callable[..., Site], wait_until: WaitUntil) -> Site:
    """An enforcer beside a firewalld whose device is in a zone of its own, not in the default one."""

    def begin(stage: Stage) -> None:
        stage.run(
            "sh", "-c", "mkdir /run/dbus /run/firewalld && cat > /run/bus.conf <<'END'\n" + BUS + "\nEND"
        )
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        stage.popen("dbus-daemon", "--config-file=/run/bus.conf", "--nofork", **quiet)
        wait_until(lambda: stage.status("test", "-S", "/run/dbus/system_bus_socket") == 0, 10, "the bus")
        stage.popen("firewalld", "--nofork", "--nopid", **quiet)
        wait_until(lambda: stage.status("firewall-cmd", "--state") == 0, 30, "firewalld runs")
        stage.run("firewall-cmd", "--permanent", "--zone=work", "--change-interface=v0")
        stage.run("firewall-cmd", "--reload")

    return on_stage("firewalld", begin, "firewalld", "conntrack")


@pytest.fixture
def shorewall(on_stage: Callable[..., Site]) -> Site:
    """An enforcer beside a Shorewall and a Shorewall6 that let everybody in."""

    def begin(stage: Stage) -> None:
        for name, version in (("shorewall", "4"), ("shorewall6", "6")):
            folder = f"/etc/{name}"
            stage.run("sh", "-c", f"printf 'fw firewall\\nnet ipv{version}\\n' > {folder}/zones")
            stage.run("sh", "-c", f"printf 'net v0\\n' > {folder}/interfaces")
            stage.run(
                "sh", "-c", f"printf '$FW all ACCEPT\\nnet all ACCEPT\\nall all REJECT\\n' > {folder}/policy"
            )
            stage.run(name, "start")

    return on_stage("shorewall", begin, "shorewall", "shorewall6", "conntrack")


def test_firewalld_cuts_the_source_off_and_lets_it_in_again(firewalld: Site) -> None:
    """Whatever zone the device is in; an open connection too, with conntrack after it."""
    for count, (source, victim) in enumerate(BOTH, start=1):
        open_before = connect(firewalld.lab, PORT, victim, source)
        served, _ = firewalld.serving.accept()
        assert firewalld.is_answered(victim)
        assert firewalld.block(source).kind is OutcomeKind.DONE
        assert firewalld.is_silent(victim)
        firewalld.wait_for(
            lambda count=count: firewalld.status()["endings"].get("conntrack done") == count, "conntrack ran"
        )
        open_before.send(b"still there?")
        served.settimeout(UNANSWERED)
        with pytest.raises(TimeoutError):
            served.recv(64)
        firewalld.release(source)
        firewalld.wait_for(lambda victim=victim: firewalld.is_answered(victim), "let in again")
        open_before.close()
        served.close()
    assert firewalld.stage.run("firewall-cmd", "--zone=drop", "--list-sources").strip() == ""


@pytest.mark.parametrize("count", [1, 30])
def test_a_reload_of_firewalld_is_found_and_mended(firewalld: Site, count: int) -> None:
    """It forgets what is not permanent: one by one, and many in one batch, are there within the interval."""
    others = [f"198.51.100.{number}" for number in range(1, count)]
    for source in (SCANNER4, SCANNER6, *others):
        firewalld.block(source)
    firewalld.stage.run("firewall-cmd", "--reload")

    def sources() -> set[str]:
        return set(firewalld.stage.run("firewall-cmd", "--zone=drop", "--list-sources").split())

    firewalld.wait_for(lambda: sources() == {SCANNER4, SCANNER6, *others}, "all are denied again")
    assert f"mended action=firewalld restored={count + 1}" in firewalld.said()
    assert firewalld.is_silent(VICTIM4)
    assert firewalld.is_silent(VICTIM6)


def test_shorewall_cuts_the_source_off_and_lets_it_in_again(shorewall: Site) -> None:
    """IPv4 by Shorewall, IPv6 by Shorewall6, as one jail names both; a restart keeps it."""
    for source, victim in BOTH:
        assert shorewall.is_answered(victim)
        assert shorewall.block(source).kind is OutcomeKind.DONE
        assert shorewall.is_silent(victim)
        name = "shorewall" if victim == VICTIM4 else "shorewall6"
        shorewall.stage.run(name, "restart")
        assert shorewall.is_silent(victim)
        shorewall.release(source)
        shorewall.wait_for(lambda victim=victim: shorewall.is_answered(victim), "let in again")


def test_what_shorewall_forgets_is_found_and_mended(shorewall: Site) -> None:
    """It keeps its blacklist in a file over a restart; a start without that file begins with none."""
    for source in (SCANNER4, SCANNER6):
        shorewall.block(source)
    for name, chains in (("shorewall", "iptables"), ("shorewall6", "ip6tables")):
        shorewall.stage.run(name, "clear")
        shorewall.wait_for(lambda n=name: n in shorewall.status()["action_problems"], "it is said")
        problem = shorewall.status()["action_problems"][name]
        assert problem.endswith(f"exit status 3: {name.capitalize()} is not started")
        shorewall.stage.run("sh", "-c", f"rm -f /var/lib/{name}/.*dynamic")
        shorewall.stage.run(name, "start")
        shorewall.stage.run(chains, "-F", "dynamic")
    for victim in (VICTIM4, VICTIM6):
        shorewall.wait_for(lambda victim=victim: shorewall.is_silent(victim), "cut off again")
    assert shorewall.status()["action_problems"] == {}


@pytest.mark.parametrize("name", ["firewalld", "shorewall", "shorewall6"])
def test_its_author_can_try_it_on_throw_away_ground(lab: Lab, tmp_path: Path, name: str) -> None:
    """`portward action test`: with a firewalld or a Shorewall of the trial's own, each step proved."""
    if reason := why_not(name.rstrip("6")):
        pytest.skip(reason)
    stage = Stage(lab, tmp_path, name.rstrip("6"))
    said = stage.run(
        *(f"PYTHONPATH={ROOT}", f"HOME={os.environ.get('HOME', '/')}", sys.executable, "-P"),
        *("-m", "correlator", "action", "test", name, "--json"),
        check=False,
    )
    found = json.loads(said)
    assert [step for step in found["steps"] if not step["is_proved"]] == []
    versions = {"firewalld": (4, 6), "shorewall": (4,), "shorewall6": (6,)}[name]
    steps = {step["name"] for step in found["steps"]}
    assert {f"IPv{version} {what}" for version in versions for what in ("block", "blocked", "after")} <= steps
    assert found["proved"]
