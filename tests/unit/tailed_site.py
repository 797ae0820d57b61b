"""A site whose logs are followed, for tests of all sources at once."""

import time

from correlator.model import SECOND
from correlator.tailers.plan import Plan
from correlator.tailers.sources import Sources


class TailedSite:
    """Sources of a test with what they were told and told us; the clock stands until somebody moves it."""

    def __init__(self, folder):
        self.folder = folder
        self.now = time.time_ns() // 1000
        self.kept = {}
        self.routes = {}
        self.dropped = []
        self.sources = None

    def start(self, files, **plan):
        """Follow `files`, names below the test's folder and the filters that read them; as a restart does."""
        self.close()
        self.sources = Sources(
            self.plan(files, **plan),
            clock=lambda: self.now,
            recall=self.kept.get,
            known=self.kept.keys,
            follow=self.routes.__setitem__,
            drop=self._drop,
            stream=plan.get("stream"),
        )

    def _drop(self, origin, is_useless):
        self.dropped.append((self.short(origin), is_useless))
        if is_useless:
            self.kept.pop(origin, None)

    def plan(self, files, alert_log="alert.log", stream=None):
        """Return a plan of these files."""
        del stream
        named = {f"{self.folder}/{name}": filters for name, filters in files.items()}
        return Plan(named, f"{self.folder}/{alert_log}", filters=("all",))

    def read(self, seconds=1):
        """Return what comes a while later, as (name, text), and keep the positions."""
        self.now += int(seconds * SECOND)
        got = []
        while True:
            got += [(self.short(arrived.origin), arrived.data.decode()) for arrived in self.sources.read()]
            if not self.sources.is_busy:
                break
        self.save()
        return got

    def save(self):
        """Write the positions down."""
        self.kept |= self.sources.unsaved()
        self.sources.mark_saved()

    def write(self, name, text):
        """Append to a file, made where it is not there."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)

    def short(self, origin):
        """Return an origin without the test's folder."""
        return origin.removeprefix(f"{self.folder}/")

    def readers(self):
        """Return who was told to read what."""
        return {self.short(origin): filters for origin, filters in self.routes.items()}

    def close(self):
        """Give everything back."""
        if self.sources is not None:
            self.sources.close()
            self.sources = None
