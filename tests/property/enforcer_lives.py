"""Lives of an enforcement, of any length: what random lives of all kinds have in common."""

import tempfile
from pathlib import Path

from hypothesis.stateful import RuleBasedStateMachine

from correlator.enforcer.plans import Until
from correlator.enforcer.records import Records
from correlator.model import SECOND
from correlator.store.blocks import BlockStore
from tests.enforcer_fakes import NOW, make_enforcement, settings_in
from tests.property.mortals import MortalBackend

MINUTE = 60 * SECOND


class EnforcerLife(RuleBasedStateMachine):
    """An enforcement that can be started again on what its last life left: a firewall, a database, files."""

    backend: MortalBackend

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.settings = settings_in(self.path)
        self.now = NOW
        self.count = 0
        """How many blocks were asked for."""
        self.store: BlockStore | None = None

    def teardown(self) -> None:
        """Give everything back."""
        self.close_store()
        self.folder.cleanup()

    def close_store(self) -> None:
        """Let go of the last life's database."""
        if self.store is not None:
            self.store.close()

    def begin(self, store: BlockStore, **parts: object) -> None:
        """Start on a database."""
        self.store = store
        self.records = Records(self.settings.paths, store, self.fail)
        self.enforcement = make_enforcement(
            self.settings,
            backend=self.backend,
            store=store,
            records=self.records,
            announce=lambda _line, _event: None,
            **parts,
        )
        self.enforcement.start(self.now)

    def fail(self, text: str) -> None:
        """Nothing is complained of in this world."""
        raise AssertionError(text)


def longest(ends: list[Until]) -> Until | bool:
    """Return the latest of some ends; False where there is none."""
    if not ends:
        return False
    return None if None in ends else max(end for end in ends if end is not None)
