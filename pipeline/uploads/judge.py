"""What the lake says of names: done, or still to do, and under which key it is to be submitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import StorageError
from pipeline.ids import digest
from pipeline.lake import Lake
from pipeline.lake.location import Location
from pipeline.lake.lookup import History, ends_by_uri, histories, known_videos
from pipeline.lake.records import VideoName
from pipeline.sources import Source

_BLOCK = 50_000
"""Names that are judged at once. What the lake says of one takes 9 kB, and a sweep lists all there are."""


@dataclass(frozen=True)
class Todo:
    """A video to be analysed. `key` stays the same until the lake knows of another end of an attempt at it.

    While an attempt is under way it is thus that of its run, so that who submits the video gets that run.
    """

    source: Source
    key: str

    @property
    def uri(self) -> str:
        return self.source.uri


class Judge:
    """What a lake says. Who asks all day opens its tables once: on S3 that takes dozens of requests.

    Not for several threads.
    """

    def __init__(self, lake_uri: str) -> None:
        """Prepare; the lake need not be there yet.

        Raises:
            UsageError: that is no path of a lake.
        """
        self._uri, self._place = lake_uri, Lake(Location.parse(lake_uri))
        self._lake: Lake | None = None

    def todo(self, sources: Sequence[Source]) -> list[Todo]:
        """Of these, the versions that have neither a result nor a failure yet.

        Another config makes nothing to do: results of an older one stay until somebody asks for `--upgrade`.

        Raises:
            StorageError: the lake cannot be read.
        """
        lake = self._opened() if sources else None
        if lake is None:
            return [Todo(source, _key(source, 0)) for source in sources]
        blocks = (sources[begin : begin + _BLOCK] for begin in range(0, len(sources), _BLOCK))
        try:
            return [item for block in blocks for item in _undone(lake, block)]
        except StorageError:
            self._lake = None  # it may have been removed, to begin anew
            raise

    def _opened(self) -> Lake | None:
        """None: it is not there yet."""
        if self._lake is None and self._place.is_made():
            self._lake = Lake.open(self._uri, create=False)
        return self._lake


def todo(lake_uri: str, sources: Sequence[Source]) -> list[Todo]:
    """What `Judge.todo` says, for who asks once."""
    return Judge(lake_uri).todo(sources)


def _undone(lake: Lake, sources: Sequence[Source]) -> list[Todo]:
    known = known_videos(lake, [source.uri for source in sources])
    met = {s.uri: known[s.uri].video_id for s in sources if s.uri in known and _is_of(known[s.uri], s)}
    past = histories(lake, set(met.values()))
    undone = [source for source in sources if source.uri not in met or not _is_decided(past[met[source.uri]])]
    ends = ends_by_uri(lake, [source.uri for source in undone])
    return [Todo(source, _key(source, ends[source.uri])) for source in undone]


def _is_of(name: VideoName, source: Source) -> bool:
    return (name.etag, name.size_bytes) == (source.etag, source.size_bytes)


def _is_decided(history: History) -> bool:
    return history.current is not None or any(row.failed for row in history.rows[-1:])


def _key(source: Source, ends: int) -> str:
    return f"marey-{digest(source.uri, source.etag or str(source.changed_at), str(ends))}"
