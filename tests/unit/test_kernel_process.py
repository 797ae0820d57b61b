"""What a process asks of the kernel for itself."""

import grp
import os
import subprocess
import sys

import pytest

GROUPS = """
import os, sys
from correlator.kernel.process import join_groups
join_groups(*sys.argv[1:])
print(*os.getgroups())
"""

LIMITS = """
import resource, sys
from correlator.kernel.process import allow_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 512))
allow_descriptors(int(sys.argv[1]))
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def _groups_after(*names):
    command = [sys.executable, "-c", GROUPS, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {int(number) for number in done.stdout.split()}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may join a group")
def test_root_joins_the_groups_that_may_read_logs():
    """Without root's rights it would read less than the package's user: /var/log/x of somebody:adm 0640."""
    before = _groups_after()
    assert _groups_after("adm", "no-such-group") == before | {grp.getgrnam("adm").gr_gid}


@pytest.mark.parametrize(("wanted", "soft"), [(100, 256), (300, 300), (8192, 512)])
def test_descriptors_are_allowed_as_far_as_they_can_be(wanted, soft):
    """Never fewer than there were, never more than the hard limit, which stays."""
    command = [sys.executable, "-c", LIMITS, str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(soft), "512"]
