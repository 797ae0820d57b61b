"""Each shell finds by itself what the package installs for it, and completes as somebody types."""

import os
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.package

BASH = """\
. /usr/share/bash-completion/bash_completion
_completion_loader portward
COMP_WORDS=(portward ena) COMP_CWORD=1
_portward
echo "${COMPREPLY[@]}"
"""
# a shell at a terminal of its own, in which the key is pressed
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D; print re''ady"
zpty -r -m shell said '*ready*'
zpty -w -n shell $'portward ena\t; print d''one\n'
zpty -r -m shell said '*done*'
print -r -- $said
"""


@pytest.fixture(scope="module")
def installed(package, tmp_path_factory):
    """The folder with what the package installs."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
    return folder


def ask(installed, *argv):
    """Run a shell that finds the package's folders where it looks for those of the system."""
    if shutil.which(argv[0]) is None:
        pytest.skip(f"needs {argv[0]}")
    environment = {
        "PATH": f"{installed}/usr/bin:/usr/bin:/bin",
        "XDG_DATA_DIRS": f"{installed}/usr/share:/usr/share",
        "HOME": str(installed),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout


def test_bash_loads_it(installed):
    """By bash-completion, when it is asked for the first time."""
    if not os.path.exists("/usr/share/bash-completion/bash_completion"):
        pytest.skip("needs bash-completion")
    assert ask(installed, "bash", "-c", BASH) == "enable\n"


def test_zsh_loads_it(installed):
    """From Debian's folder for what packages bring."""
    folder = installed / "usr/share/zsh/vendor-completions"
    assert "portward enable" in ask(installed, "zsh", "-f", "-c", ZSH, "zsh", folder)


def test_fish_loads_it(installed):
    """From the vendors' folder, once there is a program of that name."""
    said = ask(installed, "fish", "--private", "-c", 'complete --do-complete "portward ena"')
    assert said.split("\t")[0] == "enable"
