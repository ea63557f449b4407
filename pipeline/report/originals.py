"""Videos as they were analysed: files where they lie, remote ones copied to this disk, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline.errors import SourceError, StorageError
from pipeline.ids import content_id
from pipeline.report.gather import Record, Row
from pipeline.sources import Source, Spool, look_again


class Originals:
    """Use as a context manager: leaving it removes the copy."""

    def __init__(self, max_bytes: int, tell: Callable[[str], None]) -> None:
        """Prepare.

        Args:
            max_bytes: of disk for the copy.
            tell: is told before a video is copied, which may take long.
        """
        self._spool, self._tell = Spool(max_bytes), tell
        self._held: Source | None = None
        self._contents: dict[tuple[str, str | None], str] = {}  # by uri and etag, of files that were read

    def __enter__(self) -> Originals:
        return self

    def __exit__(self, *exc: object) -> None:
        self._spool.__exit__(*exc)

    def at_hand(self, record: Record) -> Record:
        """The record with its video as `file`, from the first of its names under which that is to be had.

        The copy of the one before goes.

        Raises:
            SourceError: the video is gone, cannot be read, is not what was analysed, or is too large; or its
                bucket cannot be reached, which is no fault of the lake's. Of several names the first is told.
        """
        names = (record.video, *record.aliases)
        if self._held is not None:
            for name in names:
                if name["uri"] == self._held.uri:
                    return replace(record, video=name, file=self._held.path)
        failures = []
        for name in names:
            self._release()
            try:
                return replace(record, video=name, file=self._fetch(look_again(name["uri"]), name))
            except SourceError as exc:
                failures.append(exc)
            except StorageError as exc:
                failures.append(SourceError(exc.what, remedy=exc.remedy, code="unreachable"))
        raise failures[0]

    def _release(self) -> None:
        if self._held is not None:
            self._spool.release(self._held)
            self._held = None

    def _fetch(self, source: Source, video: Row) -> Path:
        if source.size_bytes != video["size_bytes"]:
            raise _changed(source.uri, f"{source.size_bytes} bytes, then {video['size_bytes']}")
        content = video["content_id"]
        if source.is_remote:
            self._tell(f"copying {source.uri}, {source.size_bytes / 1e6:.1f} MB")
            self._held = source = self._spool.get(source)
            content = source.content_id
        elif source.path is not None and source.etag != video["etag"]:
            version = (source.uri, source.etag)
            if version not in self._contents:
                self._contents[version] = content_id(source.path)
            content = self._contents[version]
        if content != video["content_id"] or source.path is None:
            raise _changed(source.uri, "other bytes of the same number")
        return source.path


def _changed(uri: str, got: str) -> SourceError:
    remedy = "analyse it again, or bring back what was analysed"
    return SourceError(f"{uri} is not what was analysed", got=got, remedy=remedy, code="changed")
