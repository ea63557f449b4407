"""A lake below a prefix of an S3 bucket."""

from __future__ import annotations

import contextlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial

from pipeline import s3
from pipeline.errors import GoneError, StorageError, TransientError, UsageError
from pipeline.lake.location import GONE, Location, Version

_NO_SUCH_CALL = ("NotImplemented", "MethodNotAllowed")

# deltalake encodes other characters twice in some of its requests and once in others.
_PREFIX = re.compile(r"[A-Za-z0-9_=+~.-]+(/[A-Za-z0-9_=+~.-]+)*")


@dataclass(frozen=True)
class Bucket(Location):
    """Bucket and prefix; the prefix without slashes at its ends."""

    bucket: str
    prefix: str

    @classmethod
    def of(cls, uri: str) -> Bucket:
        """Read an s3:// URI.

        Raises:
            UsageError: no bucket, no prefix, or a prefix that the tables' library would misread.
        """
        bucket, prefix = s3.split(uri)
        prefix = prefix.strip("/")
        if not prefix:
            raise UsageError("a lake needs a prefix of its own", got=uri, remedy="write s3://bucket/prefix")
        if not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
            remedy = "use letters, digits, - _ . = + ~ and single slashes"
            raise UsageError("a lake's prefix", got=prefix, remedy=remedy)
        return cls(bucket, prefix)

    @property
    def storage_options(self) -> dict[str, str]:
        return s3.delta_options(self.bucket)

    def table(self, name: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}/{name}"

    def make(self, *, conditional: bool = True) -> None:
        s3.region(self.bucket)
        if not _honours_if_none_match(self) and conditional:
            raise StorageError(
                f"lake {self}: the server ignores If-None-Match, so two writers could overwrite each other",
                remedy="use another server, or, with one writer only, lake.conditional_put = false",
            )

    def exists(self) -> bool:
        s3.region(self.bucket)
        return any(True for _ in s3.listed(self.bucket, f"{self.prefix}/", MaxKeys=1))

    def sync_commit(self, table: str, version: int) -> None:
        """Nothing: what an object store has taken lasts."""

    def failure(self, what: str, exc: Exception) -> StorageError:
        told = s3.failure(what, str(exc))
        missing = GONE.search(str(exc)) and "NoSuchBucket" not in str(exc)
        return GoneError(what, remedy=told.remedy) if missing else told

    def read(self, name: str) -> bytes | None:
        def get() -> bytes:
            answer = s3.client().get_object(Bucket=self.bucket, Key=self._key(name))
            data: bytes = answer["Body"].read()
            if len(data) != answer["ContentLength"]:
                raise TransientError(f"{self}/{name} came in part only", remedy="run again")
            return data

        try:
            return s3.ask(f"{self}/{name} cannot be read", get)
        except s3.NoObjectError:
            return None

    def create(self, name: str, data: bytes) -> bool:
        def put() -> None:
            s3.client().put_object(Bucket=self.bucket, Key=self._key(name), Body=data, IfNoneMatch="*")

        try:
            s3.ask(f"{self}/{name} cannot be written", put)
        except s3.PreconditionError:
            return False
        except s3.NoObjectError as exc:
            raise StorageError(f"{self}/{name} cannot be written", remedy=str(exc)) from exc
        return True

    def names(self, folder: str) -> list[str]:
        return list(self.changed(folder))

    def changed(self, folder: str) -> dict[str, datetime]:
        top = f"{self.prefix}/{folder}/" if folder else f"{self.prefix}/"
        return {item["Key"][len(top) :]: item["LastModified"] for item in s3.listed(self.bucket, top)}

    def remove(self, name: str) -> None:
        def delete() -> None:
            s3.client().delete_object(Bucket=self.bucket, Key=self._key(name))

        with contextlib.suppress(s3.NoObjectError):
            s3.ask(f"{self}/{name} cannot be removed", delete)

    def remove_folder(self, folder: str) -> None:
        for name in self.names(folder):
            self.remove(f"{folder}/{name}")

    def old_versions(self) -> list[Version]:
        client, top = s3.client(), f"{self.prefix}/"
        what = f"bucket {self.bucket} cannot be asked for old versions"
        try:
            told = s3.ask(what, lambda: client.get_bucket_versioning(Bucket=self.bucket))
        except StorageError as exc:
            if s3.error_code(exc.__cause__) in _NO_SUCH_CALL:
                return []  # a server without versions
            raise
        if "Status" not in told:
            return []  # it never kept any
        found: list[Version] = []
        asked = {"Bucket": self.bucket, "Prefix": top}
        while True:
            page = s3.ask(what, partial(client.list_object_versions, **asked))
            for item in page.get("Versions", ()):
                if not item["IsLatest"]:
                    found.append(Version(item["Key"][len(top) :], item["VersionId"]))
            if not page.get("IsTruncated"):
                return found
            asked |= {
                "KeyMarker": page["NextKeyMarker"],
                "VersionIdMarker": page.get("NextVersionIdMarker", ""),
            }

    def read_version(self, old: Version) -> bytes | None:
        def get() -> bytes:
            answer = s3.client().get_object(Bucket=self.bucket, Key=self._key(old.name), VersionId=old.id)
            return bytes(answer["Body"].read())

        try:
            return s3.ask(f"an old version of {self}/{old.name} cannot be read", get)
        except s3.NoObjectError:
            return None

    def remove_version(self, old: Version) -> None:
        def delete() -> None:
            s3.client().delete_object(Bucket=self.bucket, Key=self._key(old.name), VersionId=old.id)

        with contextlib.suppress(s3.NoObjectError):
            s3.ask(f"an old version of {self}/{old.name} cannot be removed", delete)

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}"

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


@cache
def _honours_if_none_match(lake: Bucket) -> bool:
    """Try it, once per lake and process: of two objects of one name the second must be refused."""
    name = f"_probe/{secrets.token_hex(8)}"
    lake.create(name, b"first")
    refused = not lake.create(name, b"second")
    lake.remove(name)
    return refused
