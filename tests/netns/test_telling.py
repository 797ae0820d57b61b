"""Mail and webhook for real: through Exim and msmtp to a server that keeps every byte; HTTP and HTTPS."""

import http.server
import json
import re
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from correlator.drill.lab import SCANNER4, SCANNER6, Lab
from correlator.kernel.process import CAP_NET_ADMIN
from correlator.model import OutcomeKind
from tests.netns.blocking import ROOT, Site, WaitUntil
from tests.netns.victim import serve
from tests.peers.smtp import Sink
from tests.peers.unpacked import Stage, why_not

pytestmark = pytest.mark.netns

EXIM = """
primary_hostname = victim.example
spool_directory = /run/exim
log_file_path = /run/exim/%slog
keep_environment =
acl_not_smtp = accept
begin routers
out:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = smtp
begin transports
smtp:
  driver = smtp
  port = 2525
  allow_localhost
"""
MSMTP = "account default\nhost 127.0.0.1\nport 2525\nfrom portward@victim.example\n"
HOSTILE = "5 strikes in 60s, last: Bcc: all@example.org Subject: you won . QUIT é " + "\N{PILE OF POO}" * 420


def _start_exim(stage: Stage) -> None:
    # exim is built to look for its user, whatever its settings say
    stage.run(
        "sh", "-ec", "grep -q ^Debian-exim: /etc/passwd || echo Debian-exim:x:65111:65111::/: >> /etc/passwd"
    )
    stage.run("sh", "-ec", "grep -q ^Debian-exim: /etc/group || echo Debian-exim:x:65111: >> /etc/group")
    stage.run("sh", "-ec", "mkdir -p /etc/exim4 /run/exim && chown Debian-exim:Debian-exim /run/exim")
    stage.run("sh", "-ec", f"cat > /etc/exim4/exim4.conf <<'END'\n{EXIM}\nEND")
    stage.run("ln", "-sf", "exim4", "/usr/sbin/sendmail")


def _start_msmtp(stage: Stage) -> None:
    stage.run("sh", "-ec", f"cat > /etc/msmtprc <<'END'\n{MSMTP}\nEND")
    stage.run("ln", "-sf", "../bin/msmtp", "/usr/sbin/sendmail")


@pytest.fixture
def sink(lab: Lab) -> Iterator[Sink]:
    """A mail server in the victim."""
    lab.victim.run("ip", "link", "set", "lo", "up")
    made = Sink(serve(lab, 2525, address="127.0.0.1"))
    yield made
    made.close()
    assert made.faults == []


@pytest.fixture
def site_with(lab: Lab, tmp_path: Path, wait_until: WaitUntil) -> Iterator[Callable[..., Site]]:
    """The function that starts an enforcer with these actions."""
    with ExitStack() as stack:

        def start(*actions: str, popen: Callable[..., object] = lab.victim.popen, settings: str = "") -> Site:
            site = Site(lab, popen, tmp_path, wait_until, *actions, settings=settings)
            stack.callback(site.close)
            return site

        yield start


BEGINNINGS = {"exim": _start_exim, "msmtp": _start_msmtp}


@pytest.mark.parametrize("program", BEGINNINGS)
def test_a_message_arrives_whole_whatever_a_stranger_wrote(
    lab: Lab, tmp_path: Path, sink: Sink, site_with: Callable[..., Site], program: str
) -> None:
    """One message to root, with our headers and no others, in lines that any server takes."""
    if reason := why_not(program):
        pytest.skip(reason)
    stage = Stage(lab, tmp_path, program)
    BEGINNINGS[program](stage)
    site = site_with("nftables", "mail", popen=stage.popen)
    for source in (SCANNER4, SCANNER6):
        assert site.block(source, reason=HOSTILE).kind is OutcomeKind.DONE
    site.wait_for(lambda: len(sink.messages) == 2, "both messages arrive")
    site.wait_for(lambda: site.status()["endings"].get("mail done") == 2, "mail was carried out")
    messages = {line: message for message in sink.messages for line in message.headers}
    for source in (SCANNER4, SCANNER6):
        message = messages[f"Subject: [portward] {source} blocked by scan".encode()]
        assert [recipient.partition("@")[0] for recipient in message.recipients] == ["root"]
        names = {line.partition(b":")[0].lower() for line in message.headers if line[:1] not in (b" ", b"\t")}
        ours = {b"to", b"subject", b"auto-submitted", b"mime-version", b"content-type"}
        assert ours <= names <= ours | {b"from", b"date", b"message-id", b"received", b"sender"}
        assert f"source   {source}".encode() in message.body
        told = b"".join(line[9:] for line in message.body if line.startswith((b"reason", b"         ")))
        assert told.decode() == HOSTILE.encode("ascii", "backslashreplace").decode()


def test_no_mail_server_is_said_and_hides_nothing(
    site_with: Callable[..., Site], lab: Lab, tmp_path: Path
) -> None:
    """The check names what is missing, each block says that nobody was told, and everybody is denied."""
    if reason := why_not("msmtp"):
        pytest.skip(reason)
    stage = Stage(lab, tmp_path, "msmtp")
    stage.run("rm", "-f", "/usr/sbin/sendmail")
    site = site_with("nftables", "mail", popen=stage.popen)
    assert site.block(SCANNER4).kind is OutcomeKind.DONE
    site.wait_for(lambda: site.status()["endings"].get("mail failed") == 1, "mail failed")
    assert site.is_silent("192.0.2.1")
    problem = (
        "test -x /usr/sbin/sendmail: exit status 1 (it needs a mail server such as postfix or msmtp-mta)"
    )
    assert site.status()["action_problems"] == {"mail": problem}
    assert "/usr/sbin/sendmail: not found" in site.said()


class Hook:
    """A web server in the victim; `answers`: what it does with one request after the other, then always."""

    def __init__(self, lab: Lab, port: int, *answers: str, context: ssl.SSLContext | None = None) -> None:
        self.told: list[tuple[str, dict[str, str], bytes]] = []
        answering = list(answers)
        told = self.told

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 20

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                told.append((self.path, dict(self.headers), body))
                answer = answering.pop(0) if len(answering) > 1 else answering[0]
                if answer == "hang":
                    self.rfile.read(1)  # until the other side has had enough
                    return
                status, _, location = answer.partition(" ")
                self.send_response(int(status))
                if location:
                    self.send_header("Location", location)
                self.end_headers()
                if answer == "200":
                    self.wfile.write(b"x" * 4_000_000)  # more than anybody asked for

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        with lab.victim.entered():
            self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def hook(lab: Lab) -> Iterator[Callable[..., Hook]]:
    """The function that starts a web server in the victim."""
    lab.victim.run("ip", "link", "set", "lo", "up")
    with ExitStack() as stack:

        def start(*answers: str, port: int = 8080, context: ssl.SSLContext | None = None) -> Hook:
            made = Hook(lab, port, *answers, context=context)
            stack.callback(made.close)
            return made

        yield start


def own_hook(*changes: tuple[str, str]) -> str:
    """The shipped action as a table `hook` of the settings, as its description tells to copy it."""
    text = (ROOT / "actions/webhook.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return "[action.hook]\n" + text


IMPATIENT = (('"--max-time", "8"', '"--max-time", "2"'), ('"--retry", "3"', '"--retry", "1"'))


def test_a_webhook_is_told_as_json(site_with: Callable[..., Site], hook: Callable[..., Hook]) -> None:
    """The shipped file as it stands; what the server answers is no matter, and longer than anybody keeps."""
    web = hook("200")
    site = site_with("nftables", "webhook")
    assert site.block(SCANNER6, reason=HOSTILE).kind is OutcomeKind.DONE
    site.wait_for(lambda: site.status()["endings"].get("webhook done") == 1, "the server was told")
    rights = Path(f"/proc/{site.status()['pid']}/status").read_text()
    assert re.findall(r"^Cap(?:Eff|Bnd):\s+(\w+)", rights, re.MULTILINE) == [f"{1 << CAP_NET_ADMIN:016x}"] * 2
    ((path, headers, body),) = web.told
    found = json.loads(body)
    assert (path, headers["Content-Type"]) == ("/portward", "application/json")
    assert (found["source"], found["jail"], found["port"], found["reason"]) == (SCANNER6, "scan", 79, HOSTILE)


def test_a_server_at_fault_is_asked_again(site_with: Callable[..., Site], hook: Callable[..., Hook]) -> None:
    """With a pause before each further try; in the end it knows, once."""
    web = hook("500", "503", "200")
    site = site_with("nftables", "webhook")
    site.block(SCANNER4)
    site.wait_for(lambda: site.status()["endings"].get("webhook done") == 1, "the server was told")
    assert len(web.told) == 3
    assert len({body for _, _, body in web.told}) == 1


@pytest.mark.parametrize(
    ("answer", "times", "said"),
    [
        ("302 http://127.0.0.1:8080/elsewhere", 1, "302 http://127.0.0.1:8080/elsewhere"),
        ("404", 1, "The requested URL returned error: 404"),
        ("500", 2, "The requested URL returned error: 500"),
        ("hang", 2, "Operation timed out"),
    ],
)
def test_what_nobody_was_told_is_said(
    site_with: Callable[..., Site], hook: Callable[..., Hook], answer: str, times: int, said: str
) -> None:
    """A redirect is not followed, a server that hangs ends with the time; the block stands in any case."""
    web = hook(answer)
    site = site_with("nftables", "hook", settings=own_hook(*IMPATIENT))
    assert site.block(SCANNER4).kind is OutcomeKind.DONE
    assert site.is_silent("192.0.2.1")
    site.wait_for(lambda: site.status()["endings"].get("hook failed") == 1, "the webhook failed")
    assert said in site.said()
    assert len(web.told) == times


def test_a_hanging_webhook_holds_up_no_denial(
    site_with: Callable[..., Site], hook: Callable[..., Hook]
) -> None:
    """Twenty messages wait for a server that never answers; iptables denies the next source meanwhile."""
    hook("hang")
    site = site_with("iptables", "hook", settings=own_hook(('"--max-time", "8"', '"--max-time", "59"')))
    for number in range(20):
        site.block(f"198.51.100.{number}")
    site.block(SCANNER4)
    assert site.is_silent("192.0.2.1")
    assert site.status()["endings"] == {"iptables done": 21}


def test_https_is_believed_only_with_a_certificate(
    site_with: Callable[..., Site], hook: Callable[..., Hook], tmp_path: Path
) -> None:
    """Whom nobody vouches for is told nothing; with the site's own authority it is."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    web = hook("200", port=8443, context=context)
    https = ('"http://127.0.0.1:8080/portward"', '"https://127.0.0.1:8443/portward"')
    trusting = ('"--proto"', f'"--cacert", "{certificate}", "--proto"')
    settings = own_hook(https) + own_hook(https, trusting).replace("[action.hook]", "[action.trusting]")
    site = site_with("nftables", "hook", "trusting", settings=settings)
    site.block(SCANNER4)
    site.wait_for(lambda: site.status()["endings"].get("trusting done") == 1, "told with our authority")
    assert len(web.told) == 1
    assert "self-signed certificate" in site.said()
