"""What our probe does otherwise than PortSentry 1.2, on purpose: one sentence each, with the reason.

tests/netns/test_differential_*.py show each of them on real packets (`LIMIT_OF_LINES`:
tests/unit/test_probe_watch.py), test_differential.py demands that there is no other, and docs/portsentry.md
lists them.
"""

ONE_PROCESS = "One probe serves several modes: it says once that it starts, listens and shuts down."
RIGHT_PORTS = (
    "Where a port of the list is in use, PortSentry's -tcp and -udp report the wrong port for every one"
    " behind it in the list; ours names the port that was probed."
)
NO_STRAY_PORT = (
    "Where a port of the list is in use, PortSentry's -stcp and -sudp watch in its place whatever number the"
    " memory held, often 0; ours watches the ports of the list."
)
LIMIT_WITHOUT_A_LIST = (
    "Where nothing is in use and nothing excluded, PortSentry's advanced modes watch all 65,536 ports; ours"
    " only with `compat`, and else keeps to ADVANCED_PORTS_TCP and ADVANCED_PORTS_UDP."
)
LOOPBACK_SERVICE = (
    "A service on 127.0.0.1 alone blinds PortSentry for its port, which is closed to everybody else; ours"
    " reports probes of it."
)
CLOSED_CONNECTIONS = (
    "A connection that its service closed blinds PortSentry for the port for a minute after the service is"
    " gone (TIME_WAIT); ours asks who would take the packet."
)
LINGER = (
    "PortSentry watches a port again as soon as its service is gone; ours waits for `linger`, so that the"
    " clients of a restarting service are let be."
)
OWN_PROBES = "PortSentry reports the host's own packets to itself; ours never does."
NOT_TO_US = (
    "PortSentry reports packets to a broadcast address, the noise of any network; ours only what is sent to"
    " one of the host's addresses."
)
RESERVED_SOURCE = "PortSentry reports senders in 240.0.0.0/4, which exist nowhere; ours does not."
BROKEN_SEGMENTS = (
    "PortSentry reports TCP segments and UDP datagrams with impossible lengths, those cut short by what the"
    " memory behind them held; to ours they are counted as unreadable."
)
BAD_CHECKSUMS = (
    "PortSentry reports packets with a wrong TCP or UDP checksum, which no other host answers, so anybody can"
    " tell that it runs; ours counts them (`bad checksums` in `portward status`), and they prove nothing."
)
BEFORE_NETFILTER = (
    "PortSentry never sees what a firewall rule drops; ours looks in front of the firewall, and so can tell"
    " that a blocked source goes on."
)
NO_IGNORE_FILE = (
    "While its ignore file is missing, PortSentry says so before each probe; ours once, when it vanishes, and"
    " with `compat` also where it was never there."
)
BAD_IGNORES = (
    "PortSentry says at every packet that a netmask in its ignore file is wrong, and nothing of other lines"
    " that it cannot read; ours says each once, when the file was read."
)
HIDDEN_SCANS = (
    "PortSentry sees nothing that has ACK set; ours reports ACK, window and Maimon scans by our own kernel's"
    " answers (`hidden_scans`)."
)
NO_LOOPS = (
    "PortSentry's -udp sends its banner to any port, another PortSentry's too, and they go on for ever; ours"
    " sends it to no port below 1024 and to none that it holds open."
)
LIMIT_OF_LINES = (
    "PortSentry writes a line for every packet that it gets to see, however many; ours no more than"
    " `lines_a_second`, and says how many it left out."
)
NAMES_LATER = (
    "PortSentry waits for a sender's name before it writes and blocks, 6 seconds a probe where the name"
    " server is silent; ours writes the address in its place at once, and the name in the lines after it is"
    " known."
)
NAMES_CLEANED = (
    "PortSentry writes whatever a name server calls a sender, slashes and all; ours keeps the address where"
    " that is no plain host name, or looks like an address."
)
