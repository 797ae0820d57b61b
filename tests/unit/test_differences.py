"""What we do otherwise than PortSentry is told to its users."""

from pathlib import Path

from tests.peers import differences

GUIDE = Path(__file__).resolve().parents[2] / "docs/portsentry.md"


def test_each_difference_stands_in_the_guide() -> None:
    """In the same words, so that none is left out and none goes stale."""
    guide = " ".join(GUIDE.read_text(encoding="utf-8").split())
    told = {name: text for name, text in vars(differences).items() if name.isupper()}
    assert told
    assert [name for name, text in told.items() if text not in guide] == []
