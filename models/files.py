"""Weights files by name, and their digests. Importing this loads no torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import urlsplit

from safetensors import SafetensorError, safe_open

WEIGHTS = Path(__file__).parent / "weights"
RANGES = "input_ranges"
"""The tensor in a detector's weights that `models.quantize` needs."""

_REMOTE = ("https://", "http://", "s3://")
_TIMEOUT_S = 60
_MAX_BYTES = 2 << 30
_REMEDY = "set MAREY_CACHE to a folder that can be written"


class CheckpointError(ValueError):
    """A weights file is missing, damaged, or of another kind than asked for."""


def cache_folder(name: str) -> Path:
    """Folder for what can be made or fetched again: below `MAREY_CACHE`, else ~/.cache/marey.

    Raises:
        CheckpointError: the variable is not set, and this user has no home.
    """
    try:
        return Path(os.environ.get("MAREY_CACHE") or Path.home() / ".cache" / "marey") / name
    except RuntimeError as exc:  # a container's user may be a mere number
        raise CheckpointError(f"this user has no home for a cache: {_REMEDY}") from exc


Opened = Callable[[str], AbstractContextManager[IO[bytes]]]
"""Opens an http:// or https:// address."""


@contextmanager
def _urlopened(address: str) -> Iterator[IO[bytes]]:
    with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:
        yield answer


def weights_path(name: str, opened: Opened = _urlopened) -> Path:
    """Path of weights given as a shipped name (`detector`, `motion`, `fight`, ...), a path or an address.

    Behind a path or address may stand `#sha256=` and the file's digest in hex; behind an address
    (`s3://`, `https://`, `http://`) it must. The file is then fetched once and kept in the cache. Settings
    and credentials of S3 are those of the standard AWS environment; `opened` opens the others.

    Raises:
        CheckpointError: the file cannot be fetched, or has another digest.
    """
    if re.fullmatch(r"[\w-]+", name):
        return WEIGHTS / f"{name}.safetensors"
    place, mark, wanted = name.partition("#sha256=")
    if mark and not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise CheckpointError(f"{_shown(place)}: #sha256= is followed by 64 hex digits, got {wanted!r}")
    if not place.startswith(_REMOTE):
        path = Path(place)
        if mark and _sha256(path) != wanted:
            raise CheckpointError(f"{path} has another SHA-256 than {wanted}")
        return path
    if not mark:
        raise CheckpointError(
            f"weights {_shown(place)} need #sha256= and the file's digest behind the address"
        )
    kept = cache_folder("weights") / f"{wanted}{Path(urlsplit(place).path).suffix}"
    if not os.path.exists(kept) or _sha256(kept) != wanted:  # False also where the folder may not be searched
        _fetch(place, kept, wanted, opened)
    return kept


def detector_path(name: str, opened: Opened = _urlopened) -> Path:
    """Path of an ONNX detector that somebody brings, given as a path or an address; its .toml lies beside it.

    Behind an address stands the digest of the ONNX file, as behind one of weights. Its description is fetched
    from beside it, once per process, and kept with it.

    Raises:
        CheckpointError: one of the files cannot be fetched, or the ONNX file has another digest.
    """
    return _fetched_detector(name, opened) if name.startswith(_REMOTE) else Path(name)


def description_of(address: str) -> str:
    """Address of the .toml beside an ONNX detector of this address."""
    place, mark, query = address.partition("#sha256=")[0].partition("?")
    return re.sub(r"(?<=[^/])\.[^./]*$", "", place) + ".toml" + mark + query


@cache
def _fetched_detector(name: str, opened: Opened) -> Path:
    model, beside = weights_path(name, opened), description_of(name)
    with _fetching(beside), _beside(model) as folder:
        copy, description = folder / "model.onnx", folder / "model.toml"
        shutil.copyfile(model, copy)
        with _opened(beside, opened) as answer:
            _copy(answer, description, beside)
        # A folder for the two of them: the same network may be described in two ways.
        kept = cache_folder("detectors") / f"{_sha256(copy)[:32]}-{_sha256(description)[:32]}"
        kept.mkdir(parents=True, exist_ok=True)
        for part in (copy, description):
            part.replace(kept / part.name)
    return kept / "model.onnx"


def read_checkpoint(
    path: Path, kind: str, framework: Literal["pt", "np"]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors as they are stored, of torch or NumPy, and config of a checkpoint; see `models.checkpoint`.

    Raises:
        CheckpointError: the file is missing, not safetensors, without config, or of another kind.
    """
    try:
        with safe_open(path, framework=framework) as handle:
            config = json.loads((handle.metadata() or {})["config"])
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError as exc:
        raise CheckpointError(f"weights {path} are not there") from exc
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as exc:  # NumPy lacks some types
        raise CheckpointError(f"{path} is not a checkpoint of marey: {exc}") from exc
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is not a checkpoint of marey: its config is no object")
    if config.get("kind") != kind:
        raise CheckpointError(f"{path} holds {config.get('kind')!r} weights, not {kind!r}")
    return tensors, config


def has_ranges(path: Path) -> bool:
    """Whether weights hold the ranges for inference in 8 bits; False also where they cannot be read."""
    try:
        with safe_open(path, framework="np") as handle:
            return RANGES in handle.keys()  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError):
        return False


def file_digest(path: Path) -> str:
    """SHA-256 of a weights file, first 32 hex digits: what enters the ids of results."""
    return _sha256(path)[:32]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise CheckpointError(f"weights {path} cannot be read: {exc.strerror}") from exc


def _fetch(address: str, kept: Path, wanted: str, opened: Opened) -> None:
    """Write the file under its digest, or nothing at all."""
    with _fetching(address), _beside(kept) as folder, _opened(address, opened) as answer:
        part = folder / "part"
        _copy(answer, part, address)
        found = _sha256(part)
        if found != wanted:
            raise CheckpointError(f"weights {_shown(address)} have SHA-256 {found}, expected {wanted}")
        part.replace(kept)


@contextmanager
def _beside(kept: Path) -> Iterator[Path]:
    """A folder for the parts of a file of the cache, on the same disk.

    Raises:
        CheckpointError: the cache cannot be written.
    """
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=kept.parent)
    except OSError as exc:
        raise CheckpointError(
            f"the cache {kept.parent} cannot be written ({exc.strerror}): {_REMEDY}"
        ) from exc
    with folder as name:
        yield Path(name)


@contextmanager
def _fetching(address: str) -> Iterator[None]:
    """Whatever fails on the way is said of the address."""
    try:
        yield
    except CheckpointError:
        raise
    except urllib.error.HTTPError as exc:
        exc.close()
        raise CheckpointError(f"{_shown(address)} cannot be fetched: {exc}") from exc
    except (OSError, HTTPException, ValueError) as exc:
        raise CheckpointError(f"{_shown(address)} cannot be fetched: {exc}") from exc


@contextmanager
def _opened(address: str, opened: Opened) -> Iterator[IO[bytes]]:
    if not address.startswith("s3://"):
        with opened(address) as answer:
            yield answer
        return
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = address.removeprefix("s3://").partition("/")
    try:
        # The checksum is ours to check, and S3's trailing ones are unknown to many servers.
        config = Config(retries={"mode": "standard"}, response_checksum_validation="when_required")
        client = boto3.client("s3", region_name=os.environ.get("AWS_REGION"), config=config)
        with closing(client.get_object(Bucket=bucket, Key=key)["Body"]) as answer:
            yield answer
    except (BotoCoreError, ClientError) as exc:
        raise CheckpointError(f"{address} cannot be fetched: {exc}") from exc


def _copy(answer: IO[bytes], part: Path, address: str) -> None:
    size = 0
    with part.open("wb") as file:
        while piece := answer.read(1 << 20):
            size += file.write(piece)
            if size > _MAX_BYTES:
                raise CheckpointError(f"{_shown(address)} is larger than {_MAX_BYTES} bytes")


def bare(name: str) -> str:
    """A name of weights as it may be stored: of an address neither password nor query, but the digest."""
    if not name.startswith(_REMOTE):
        return name
    parts = urlsplit(name)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _shown(address: str) -> str:
    """Without the query, which may hold a secret, and without a password."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}" if parts.scheme else address
