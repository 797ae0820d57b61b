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


def _groups_after(*names):
    command = [sys.executable, "-c", GROUPS, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {int(number) for number in done.stdout.split()}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may join a group")
def test_root_joins_the_groups_that_may_read_logs():
    """Without root's rights it would read less than the package's user: /var/log/x of somebody:adm 0640."""
    before = _groups_after()
    assert _groups_after("adm", "no-such-group") == before | {grp.getgrnam("adm").gr_gid}
