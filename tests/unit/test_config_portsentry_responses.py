"""The responses of a portsentry.conf: which of them run, how they are undone, what has no place here."""

import pytest

from correlator.config.portsentry_actions import response_actions
from correlator.config.portsentry_settings import settings_from_portsentry
from correlator.config.route_commands import ask_route, undo_route
from tests.unit.portsentry_confs import PATH, blocking, parse


def test_responses_of_one_protocol_make_a_jail_each():
    """BLOCK_TCP=1 with BLOCK_UDP=0 blocks on TCP alone."""
    settings, _ = settings_from_portsentry(blocking("TCP"))
    assert {name: (jail.filters, jail.is_blocking) for name, jail in settings.jails.items()} == {
        "portscan-tcp": (("portsentry-tcp",), True),
        "portscan-udp": (("portsentry-udp",), False),
    }
    assert settings.enforcer.is_enforcing
    assert list(settings_from_portsentry(blocking("TCP"), modes=("atcp",))[0].jails) == ["portscan"]
    assert list(settings_from_portsentry(blocking())[0].jails) == ["portscan"]


@pytest.mark.parametrize("value", ["0", "2"])
def test_block_0_and_2_only_observe(value):
    """2 runs the external command alone; where there is none, that is said."""
    conf, _ = parse(f'BLOCK_TCP="{value}"\nKILL_ROUTE="x $TARGET$"')
    settings, gaps = settings_from_portsentry(conf, modes=("atcp",))
    assert not settings.jails["portscan"].is_blocking
    assert ("BLOCK_TCP" in [gap.directive for gap in gaps if gap.is_lost]) is (value == "2")


def test_block_1_without_a_response_denies_nobody():
    """As in PortSentry, which only writes the host down."""
    settings, gaps = settings_from_portsentry(parse('BLOCK_TCP="1"')[0], modes=("atcp",))
    assert not settings.jails["portscan"].is_blocking
    assert "PortSentry denies nobody" in next(gap.note for gap in gaps if gap.directive == "BLOCK_TCP")


def test_what_has_no_place_yet_is_said():
    """Each with its line: a program that this host lacks, and what does its work; what nobody can undo."""
    conf = blocking(
        KILL_ROUTE="/sbin/no-ipchains -I input -s $TARGET$ -j DENY -l", KILL_RUN_CMD="/bin/no-mail $TARGET$"
    )
    settings, gaps = settings_from_portsentry(conf)
    lost = {gap.directive: str(gap) for gap in gaps if gap.is_lost}
    assert lost["KILL_ROUTE"].startswith(f"{PATH}:3: KILL_ROUTE: /sbin/no-ipchains is not on this host")
    assert "nft add element inet portward source4" in lost["KILL_ROUTE"]
    assert (
        lost["KILL_RUN_CMD"] == f"{PATH}:4: KILL_RUN_CMD: /bin/no-mail is not on this host, so it is not run"
    )
    assert list(lost) == ["KILL_ROUTE", "KILL_RUN_CMD"]
    assert settings.jails["portscan"].actions == ("nftables",)
    gaps = settings_from_portsentry(blocking(KILL_ROUTE="/bin/true block $TARGET$"))[1]
    assert "how to undo it is not known" in next(gap.note for gap in gaps if gap.directive == "KILL_ROUTE")


def test_what_only_looks_like_a_token_is_said():
    """PortSentry passes it on as it stands; a portward.toml with it would be refused at its first check."""
    gaps = settings_from_portsentry(blocking(KILL_RUN_CMD="/bin/true $TARGET$ $HOME$"))[1]
    (gap,) = [gap for gap in gaps if gap.directive == "KILL_RUN_CMD"]
    assert (gap.is_lost, gap.note.partition(",")[0]) == (True, "$HOME$ is no token")


@pytest.mark.parametrize(
    ("directives", "compat", "expected"),
    [
        ("BLOCK=1 ROUTE DENY RUN", False, "nftables kill-hosts-deny kill-route kill-run-cmd"),
        ("BLOCK=1 ROUTE DENY RUN FIRST", False, "kill-run-cmd nftables kill-hosts-deny kill-route"),
        ("BLOCK=1 ROUTE DENY RUN", True, "kill-hosts-deny kill-route kill-run-cmd"),
        ("BLOCK=1 DENY", False, "nftables kill-hosts-deny"),
        ("BLOCK=1 RUN", False, "kill-run-cmd"),
        ("BLOCK=1", False, ""),
        ("BLOCK=1", True, "record"),
        ("BLOCK=2 ROUTE DENY RUN", False, "kill-run-cmd"),
        ("BLOCK=2 ROUTE", False, ""),
        ("BLOCK=2 ROUTE", True, "record"),
        ("BLOCK=0 ROUTE DENY RUN", False, ""),
        ("BLOCK=0 ROUTE DENY RUN", True, "no-response"),
    ],
)
def test_which_responses_run_and_in_which_order(directives, compat, expected):
    """PortSentry's order; nftables ahead where PortSentry would deny; nothing means that we only observe."""
    texts = {
        "ROUTE": 'KILL_ROUTE="/bin/true $TARGET$"',
        "DENY": 'KILL_HOSTS_DENY="ALL: $TARGET$"',
        "RUN": 'KILL_RUN_CMD="/bin/true"',
        "FIRST": 'KILL_RUN_CMD_FIRST="1"',
    }
    block, *words = directives.split()
    conf, faults = parse("\n".join([f'BLOCK_TCP="{block[-1]}"', *(texts[word] for word in words)]))
    assert faults == ()
    settings, _ = settings_from_portsentry(conf, modes=("atcp",), compat=compat)
    (jail,) = settings.jails.values()
    assert (jail.actions if jail.is_blocking else ()) == tuple(expected.split())


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/sbin/iptables -I INPUT -s $TARGET$ -j DROP", "/sbin/iptables -D INPUT -s $TARGET$ -j DROP"),
        ("/sbin/iptables -I INPUT 1 -s $TARGET$ -j DROP", "/sbin/iptables -D INPUT -s $TARGET$ -j DROP"),
        ("/sbin/ipchains -I input -s $TARGET$ -j DENY -l", "/sbin/ipchains -D input -s $TARGET$ -j DENY -l"),
        ("/sbin/route add -host $TARGET$ reject", "/sbin/route del -host $TARGET$ reject"),
        ("ip route add unreachable $TARGET$", "ip route del unreachable $TARGET$"),
        ("ipset -A bad $TARGET$ timeout 60", "ipset del bad $TARGET$"),
        ("nft add element ip f bad { $TARGET$ }", "nft delete element ip f bad '{' $TARGET$ '}'"),
        (
            "iptables -I INPUT -s $TARGET$ -j DROP ; iptables -A INPUT -s $TARGET$ -j LOG --log-prefix 'a b'",
            "iptables -D INPUT -s $TARGET$ -j LOG --log-prefix 'a b'; iptables -D INPUT -s $TARGET$ -j DROP",
        ),
        ("iptables -I INPUT -s $TARGET$ -j DROP | tee /x", ""),
        ("/usr/local/bin/deny $TARGET$", ""),
        ("iptables -I", ""),
        ("iptables 'x $TARGET$", ""),
        ("", ""),
    ],
)
def test_how_the_usual_routes_are_undone(command, expected):
    """PortSentry never does; what we cannot be sure of has no opposite."""
    assert undo_route(command) == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/sbin/iptables -I INPUT 1 -s $TARGET$ -j DROP", "/sbin/iptables -C INPUT -s $TARGET$ -j DROP"),
        (
            "iptables -I INPUT -s $TARGET$ -j DROP && iptables -A x -s $TARGET$ -j LOG --log-prefix 'a b'",
            "iptables -C INPUT -s $TARGET$ -j DROP && iptables -C x -s $TARGET$ -j LOG --log-prefix 'a b'",
        ),
        (
            "/sbin/route add -host $TARGET$ reject",
            'found=$(ip -4 route show exact $TARGET$) && test -n "$found"',
        ),
        ("/sbin/route add -net $TARGET$ netmask 255.255.255.0 reject", ""),
        (
            "ip route add table 7 blackhole $TARGET$",
            "",
        ),
        (
            "ip route add blackhole $TARGET$ table 7",
            'found=$(ip -$VERSION$ route show table 7 type blackhole exact $TARGET$) && test -n "$found"',
        ),
        ("ip route add unreachable $TARGET$/24", ""),
        (
            "ip rule add from $TARGET$ prohibit",
            'found=$(ip -$VERSION$ rule show from $TARGET$) && test -n "$found"',
        ),
        ("ipset -A bad $TARGET$ timeout 60", "ipset -q test bad $TARGET$"),
        ("nft add element ip f bad { $TARGET$ }", "nft get element ip f bad '{' $TARGET$ '}'"),
        ("nft add element ip f bad { $TARGET$ timeout 1h }", ""),
        (
            "firewall-cmd --zone=drop --add-source=$TARGET$",
            "firewall-cmd --quiet --zone=drop --query-source=$TARGET$",
        ),
        ("firewall-cmd --permanent --add-source=$TARGET$", ""),
        ("/sbin/ipchains -I input -s $TARGET$ -j DENY -l", ""),
        ("iptables -I INPUT -s $TARGET$ -j DROP; /usr/local/bin/deny $TARGET$", ""),
        ("", ""),
    ],
)
def test_how_the_usual_routes_are_asked_about(command, expected):
    """So that one that is taken away by hand is put back; where an answer may be wrong nothing is asked."""
    assert ask_route(command) == expected


def test_a_route_for_ipv4_is_not_tried_on_ipv6():
    """Iptables has a sister for IPv6; route(8) and ipchains have none here."""
    conf, _ = parse('KILL_ROUTE="/sbin/iptables -I INPUT -s $TARGET$ -j DROP"')
    commands = response_actions(conf)["kill-route"].commands
    assert commands[6].block == (("/bin/sh", "-c", "/sbin/ip6tables -I INPUT -s $TARGET$ -j DROP"),)
    assert commands[6].release == (("/bin/sh", "-c", "/sbin/ip6tables -D INPUT -s $TARGET$ -j DROP"),)
    conf, _ = parse('KILL_ROUTE="/sbin/route add -host $TARGET$ reject"')
    assert list(response_actions(conf)["kill-route"].commands) == [4]
