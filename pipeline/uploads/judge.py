"""What the lake says of names: done, or still to do, and under which key it is to be submitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.ids import digest
from pipeline.lake import Lake
from pipeline.lake.location import Location
from pipeline.lake.lookup import History, ends_by_uri, histories, known_videos
from pipeline.lake.records import VideoName
from pipeline.sources import Source


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


def todo(lake_uri: str, sources: Sequence[Source]) -> list[Todo]:
    """Of these, the versions that have neither a result nor a failure yet.

    Another config makes nothing to do: results of an older one stay until somebody asks for `--upgrade`.

    Raises:
        StorageError: the lake cannot be read.
    """
    names, ends, past = _known(lake_uri, [source.uri for source in sources])
    return [
        Todo(source, _key(source, ends[source.uri]))
        for source in sources
        if not _is_done(source, names.get(source.uri), past)
    ]


def _known(
    lake_uri: str, uris: Sequence[str]
) -> tuple[dict[str, VideoName], Counter[str], dict[str, History]]:
    if not uris or not Lake(Location.parse(lake_uri)).is_made():
        return {}, Counter(), {}
    lake = Lake.open(lake_uri, create=False)
    names = known_videos(lake, uris)
    past = histories(lake, {name.video_id for name in names.values()})
    return names, ends_by_uri(lake, uris), past


def _is_done(source: Source, name: VideoName | None, past: dict[str, History]) -> bool:
    if name is None or (name.etag, name.size_bytes) != (source.etag, source.size_bytes):
        return False
    history = past[name.video_id]
    return history.current is not None or any(row.failed for row in history.rows[-1:])


def _key(source: Source, ends: int) -> str:
    return f"marey-{digest(source.uri, source.etag or str(source.changed_at), str(ends))}"
