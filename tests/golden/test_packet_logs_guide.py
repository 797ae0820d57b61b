"""What docs/packet-logs.md tells to write into the settings is accepted as it stands there."""

import re
from pathlib import Path

import pytest

from correlator.config.site import load_site

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/packet-logs.md").read_text()
EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
LISTED = re.findall(r"^\| `([a-z-]+)` \|", GUIDE, re.MULTILINE)


@pytest.mark.parametrize("settings", EXAMPLES, ids=lambda text: text.split("\n", 1)[0])
def test_each_example_is_accepted(tmp_path, settings):
    """A newcomer copies it: no key, filter or pattern in it may be unknown, and each jail can run."""
    (tmp_path / "portward.toml").write_text(settings)
    site = load_site(tmp_path)
    assert [str(fault) for fault in site.faults] == []
    assert set(site.jails) == set(re.findall(r"^\[jail\.([a-z-]+)\]$", settings, re.MULTILINE)) | set(
        re.findall(r'"([a-z-]+)"', "".join(re.findall(r"^enabled = .*$", settings, re.MULTILINE)))
    )


def test_each_filter_in_the_table_is_shipped_and_none_is_missing():
    """The table is what users choose from."""
    kernel = [
        path.stem
        for path in (ROOT / "filters").glob("*.toml")
        if '\nidentifiers = ["kernel"]' in path.read_text()
    ]
    assert [name for name in LISTED if not (ROOT / f"filters/{name}.toml").is_file()] == []
    assert set(kernel) - {"wireguard"} <= set(LISTED)
