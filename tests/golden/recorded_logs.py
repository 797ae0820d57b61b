"""Folders of logs that real services wrote, each line of them read through the whole core by many filters."""

import json
from collections.abc import Mapping
from pathlib import Path

from correlator.config.filters import load_filter
from correlator.matching.filters import Filter
from correlator.model import Chunk, Event, Micros
from correlator.reading import OriginCounters, Reader

FILTERS = Path(__file__).parents[2] / "filters"
_FOLDERS = Path(__file__).parent / "filters"
_MAX_LINE = 8192


def load_filters(**settings: object) -> dict[str, Filter]:
    """Return all shipped filters, by name."""
    definitions = [load_filter(path)[0] for path in sorted(FILTERS.glob("*.toml"))]
    return {definition.name: Filter(definition, **settings) for definition in definitions if definition}


class RecordedLogs:
    """A folder of logs, and what `expected.json` in it says of each line: FILTER PATTERN SOURCE."""

    def __init__(self, folder: str, arrived: Micros) -> None:
        self.folder = _FOLDERS / folder
        self.expected: dict[str, dict[str, list[str]]] = json.loads(
            (self.folder / "expected.json").read_text()
        )
        self._arrived = arrived

    @property
    def names(self) -> list[str]:
        """The logs of which something is expected."""
        return sorted(self.expected)

    @property
    def there(self) -> list[str]:
        """The logs that lie in the folder."""
        logs = {path.name for path in self.folder.iterdir() if path.suffix in (".log", ".json")}
        return sorted(logs - {"expected.json"})

    def read(self, log: str, filters: Mapping[str, Filter]) -> tuple[list[tuple[int, Event]], OriginCounters]:
        """Return (number of the line, event) for a log that all filters read, and what the reader counted."""
        data = (self.folder / log).read_bytes()
        for filter_ in filters.values():
            filter_.forget()  # who logged in elsewhere
        reader = Reader(filters, routes={log: tuple(filters)}, max_line=_MAX_LINE)
        events = reader.read(Chunk(log, 0, data, self._arrived, is_live=False))
        found = [(data.count(b"\n", 0, event.evidence.offset) + 1, event) for event in events]
        return found, reader.origins[log]

    def understood(self, log: str, filters: Mapping[str, Filter]) -> dict[str, list[str]]:
        """Return what filters understood of each line, as it is expected."""
        found: dict[str, list[str]] = {}
        for number, event in self.read(log, filters)[0]:
            found.setdefault(str(number), []).append(f"{event.filter} {event.pattern} {event.source}")
        return found

    def about(self, source: str, log: str, filters: Mapping[str, Filter]) -> list[Event]:
        """Return the events that name this source."""
        return [event for _number, event in self.read(log, filters)[0] if str(event.source) == source]
