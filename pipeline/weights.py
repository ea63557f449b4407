"""Files of weights by name, as `models.files` has them, fetched through connections that are checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from models import files
from models.files import CheckpointError


def weights_path(name: str) -> Path:
    """See `models.files.weights_path`."""
    return files.weights_path(name, _opened)


def detector_path(name: str) -> Path:
    """See `models.files.detector_path`."""
    return files.detector_path(name, _opened)


@contextmanager
def _opened(address: str) -> Iterator[IO[bytes]]:
    import urllib3  # not for weights that lie on a disk

    from pipeline.pool import ForbiddenError, cause, pool

    shown = files.bare(address)
    try:
        answer = pool().request("GET", address, preload_content=False)
        try:
            if answer.status != 200:
                raise CheckpointError(f"{shown} cannot be fetched: HTTP Error {answer.status}")
            yield cast(IO[bytes], answer)
        finally:
            answer.close()
    except ForbiddenError as exc:
        raise CheckpointError(f"{shown} may not be fetched: {exc}") from exc
    except urllib3.exceptions.HTTPError as exc:  # its text holds the query
        raise CheckpointError(f"{shown} cannot be fetched: {cause(exc)}") from None
