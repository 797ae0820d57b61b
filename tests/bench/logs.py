"""Makes logs as a host on the internet writes them: the same ones every time.

The proportions are those of small servers: cron and its sessions most of all, the administrators' own logins,
sudo, what systemd says of sessions, and strangers who try passwords, in bursts, a few of them very often.
"""

import random
from collections.abc import Callable

_START = 1_795_000_000
_DAY = 86_400
_HOST = "gate"
_USERS = (
    "root",
    "admin",
    "test",
    "oracle",
    "ubuntu",
    "postgres",
    "git",
    "user",
    "ftp",
    "pi",
    "deploy",
    "nagios",
)
_STAFF = ("ana", "bert", "chloe", "dmitri")
_COMMANDS = (
    "/usr/bin/apt-get update",
    "/usr/bin/systemctl status nginx",
    "/bin/cat /var/log/mail.log",
    "/bin/ls",
)
_KEY = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"
_JOBS = ("root", "www-data", "logcheck", "backup")

Maker = Callable[[random.Random, str, str], tuple[str, ...]]
"""Makes the bodies of what happens at once, each with its program, from a source and a process number."""


def make_auth_log(lines: int, *, seed: int = 7, share_of_strangers: float = 0.12) -> bytes:
    """Return an auth.log of so many lines, with rsyslog's traditional header."""
    chance = random.Random(seed)  # noqa: S311  the same every time is what a bench wants
    sources = [f"203.0.{chance.randrange(256)}.{chance.randrange(1, 255)}" for _ in range(400)]
    weights = [1 / (rank + 1) for rank in range(len(sources))]
    written: list[str] = []
    second = 0.0
    while len(written) < lines:
        second += chance.expovariate(lines / _DAY / 3)
        pid = str(chance.randrange(300, 4_000_000))
        if chance.random() < share_of_strangers:
            maker = chance.choices(_STRANGERS, (5, 4, 3, 2, 1))[0]
            source = chance.choices(sources, weights)[0]
        else:
            maker = chance.choices(_HOUSEHOLD, (10, 3, 3, 1, 1))[0]
            source = f"192.0.2.{chance.randrange(1, 20)}"
        stamp = _stamp(second)
        written += [f"{stamp} {_HOST} {body}" for body in maker(chance, source, pid)]
    return ("\n".join(written[:lines]) + "\n").encode()


def _stamp(second: float) -> str:
    day, rest = divmod(int(second), _DAY)
    hour, rest = divmod(rest, 3600)
    return f"Nov {22 + day:2} {hour:02}:{rest // 60:02}:{rest % 60:02}"


def _cron(chance: random.Random, _source: str, pid: str) -> tuple[str, ...]:
    user = chance.choice(_JOBS)
    return (
        f"CRON[{pid}]: pam_unix(cron:session): session opened for user {user}(uid=0) by (uid=0)",
        f"CRON[{pid}]: pam_unix(cron:session): session closed for user {user}",
    )


def _login(chance: random.Random, source: str, pid: str) -> tuple[str, ...]:
    user, port, session = chance.choice(_STAFF), chance.randrange(1024, 65536), chance.randrange(1, 9999)
    return (
        f"sshd[{pid}]: Accepted publickey for {user} from {source} port {port} ssh2: ED25519 SHA256:{_KEY}",
        f"sshd[{pid}]: pam_unix(sshd:session): session opened for user {user}(uid=1000) by (uid=0)",
        f"systemd-logind[612]: New session {session} of user {user}.",
        f"systemd: pam_unix(systemd-user:session): session opened for user {user}(uid=1000) by (uid=0)",
        f"sshd[{pid}]: Received disconnect from {source} port {port}:11: disconnected by user",
        f"sshd[{pid}]: Disconnected from user {user} {source} port {port}",
        f"sshd[{pid}]: pam_unix(sshd:session): session closed for user {user}",
        f"systemd-logind[612]: Session {session} logged out. Waiting for processes to exit.",
        f"systemd-logind[612]: Removed session {session}.",
    )


def _sudo(chance: random.Random, _source: str, _pid: str) -> tuple[str, ...]:
    user, command = chance.choice(_STAFF), chance.choice(_COMMANDS)
    return (
        f"sudo:    {user} : TTY=pts/0 ; PWD=/home/{user} ; USER=root ; COMMAND={command}",
        f"sudo: pam_unix(sudo:session): session opened for user root(uid=0) by {user}(uid=1000)",
        "sudo: pam_unix(sudo:session): session closed for user root",
    )


def _polkit(chance: random.Random, _source: str, _pid: str) -> tuple[str, ...]:
    agent = f"unix-process:{chance.randrange(1, 99999)}:{chance.randrange(10**8)} (system bus name :1.42"
    return (f"polkitd[598]: Registered Authentication Agent for {agent} [/usr/bin/pkttyagent --fallback])",)


def _su(chance: random.Random, _source: str, pid: str) -> tuple[str, ...]:
    user = chance.choice(_STAFF)
    return (
        f"su[{pid}]: (to root) {user} on pts/1",
        f"su[{pid}]: pam_unix(su-l:session): session opened for user root(uid=0) by {user}(uid=1000)",
    )


def _wrong_password(chance: random.Random, source: str, pid: str) -> tuple[str, ...]:
    port = chance.randrange(1024, 65536)
    who = f"logname= uid=0 euid=0 tty=ssh ruser= rhost={source}  user=root"
    return (
        f"sshd[{pid}]: pam_unix(sshd:auth): authentication failure; {who}",
        f"sshd[{pid}]: Failed password for root from {source} port {port} ssh2",
        f"sshd[{pid}]: Connection closed by authenticating user root {source} port {port} [preauth]",
    )


def _unknown_user(chance: random.Random, source: str, pid: str) -> tuple[str, ...]:
    user, port = chance.choice(_USERS), chance.randrange(1024, 65536)
    return (
        f"sshd[{pid}]: Invalid user {user} from {source} port {port}",
        f"sshd[{pid}]: pam_unix(sshd:auth): check pass; user unknown",
        f"sshd[{pid}]: Failed password for invalid user {user} from {source} port {port} ssh2",
        f"sshd[{pid}]: Received disconnect from {source} port {port}:11: Bye Bye [preauth]",
        f"sshd[{pid}]: Disconnected from invalid user {user} {source} port {port} [preauth]",
    )


def _look(chance: random.Random, source: str, pid: str) -> tuple[str, ...]:
    port = chance.randrange(1024, 65536)
    return (f"sshd[{pid}]: Connection closed by {source} port {port} [preauth]",)


def _no_protocol(chance: random.Random, source: str, pid: str) -> tuple[str, ...]:
    port = chance.randrange(1024, 65536)
    return (
        f"sshd[{pid}]: error: kex_exchange_identification: Connection closed by remote host",
        f"sshd[{pid}]: Connection closed by {source} port {port}",
    )


def _no_cipher(chance: random.Random, source: str, pid: str) -> tuple[str, ...]:
    port = chance.randrange(1024, 65536)
    why = "no matching key exchange method found. Their offer: diffie-hellman-group14-sha1"
    return (f"sshd[{pid}]: Unable to negotiate with {source} port {port}: {why} [preauth]",)


_HOUSEHOLD: tuple[Maker, ...] = (_cron, _login, _sudo, _polkit, _su)
_STRANGERS: tuple[Maker, ...] = (_wrong_password, _unknown_user, _look, _no_protocol, _no_cipher)
