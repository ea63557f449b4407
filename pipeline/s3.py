"""S3: one set of credentials and settings for boto3 and for deltalake, and its errors in plain words.

What counts is the standard AWS environment: variables, ~/.aws/config and credentials, AWS_PROFILE, roles
of instances and containers, AWS_ENDPOINT_URL for other servers than Amazon's. None of it is in our config.
boto3 is loaded where it is needed: deltalake reads by itself, so a query whose keys are in the environment
spares the quarter of a second.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import MareyError, StorageError, TransientError, UsageError
from pipeline.retry import patiently

if TYPE_CHECKING:
    import boto3

T = TypeVar("T")

ATTEMPTS = 8
"""Times that a request is sent before its error counts: with growing random pauses, over half a minute."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_MISSING_KEYS = ("NoSuchKey", "404", "NotFound")

_CODES = {
    "the bucket does not exist": "NoSuchBucket",
    "access is denied: these credentials may not do this": "AccessDenied Forbidden 403",
    "access is denied: the bucket is disabled": "AllAccessDisabled",
    "the access key is not known there": "InvalidAccessKeyId",
    "the secret key does not fit the access key": "SignatureDoesNotMatch",
    "the credentials have expired: renew them and run again": (
        "ExpiredToken ExpiredTokenException TokenRefreshRequired RequestExpired"
    ),
    "the session token is not accepted": "InvalidToken",
    "this machine's clock is wrong": "RequestTimeTooSkewed",
    "the bucket is in another region: set AWS_REGION": (
        "PermanentRedirect AuthorizationHeaderMalformed IllegalLocationConstraintException 301"
    ),
    "it is in an archive: restore it first": "InvalidObjectState",
    "the bucket's name is not allowed": "InvalidBucketName",
    "the server is overloaded: run again later": (
        "SlowDown ServiceUnavailable 503 TooManyRequests Throttling RequestLimitExceeded "
        "BandwidthLimitExceeded RequestTimeout 429"
    ),
    "the server failed: run again later": "InternalError 500",
    "others keep writing the same object: run again": "OperationAborted ConditionalRequestConflict",
}
"""Reason, as errors give it, to the codes and HTTP statuses of S3's answers."""

_REASONS = {code: reason for reason, codes in _CODES.items() for code in codes.split()}
_TRANSIENT = {reason for reason in _CODES if "run again" in reason} - {_REASONS["ExpiredToken"]}

_NO_CREDENTIALS = "there are no usable credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret"
_UNREACHABLE = "the server cannot be reached"
_BROKEN = (
    _UNREACHABLE, "error sending request", "HTTP error", "error decoding response body", "(Connect)",
    "connection closed", "IncompleteMessage", "operation timed out", "Connection reset",
)  # fmt: skip
_regions: dict[str, str] = {}  # of buckets that were asked for theirs


class NoObjectError(Exception):
    """S3's answer that there is no such object."""


class PreconditionError(Exception):
    """S3's answer that the object is not as the request demanded."""


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of an s3:// URI. The key is taken as it stands: nothing in it is decoded.

    Raises:
        UsageError: there is no bucket, or its name is none.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError("no bucket of that name can exist", got=uri, remedy="write s3://bucket/key")
    return bucket, key


@cache
def client() -> Any:
    """The boto3 client of this process; threads may share it."""
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=32,
        # Trailing checksums are unknown to many servers; the user's own wish comes first.
        **{
            name: "when_required"
            for name in ("request_checksum_calculation", "response_checksum_validation")
            if not os.environ.get(f"AWS_{name.upper()}")
        },
    )
    with errors("S3"):
        return session().client("s3", config=config, region_name=home_region())


def delta_options(bucket: str) -> dict[str, str]:
    """Settings for deltalake that reach the same server as the same person.

    Raises:
        StorageError: there are no credentials.
    """
    options = _from_environment()
    if options is None:
        options = _from_session(bucket)
        endpoint = str(client().meta.endpoint_url)
        if not re.search(r"\.amazonaws\.com(\.cn)?$", endpoint):
            options["aws_endpoint"] = endpoint
    if endpoint := options.get("aws_endpoint", ""):
        options["aws_allow_http"] = str(endpoint.startswith("http://")).lower()
    if bucket in _regions:
        options["aws_region"] = _regions[bucket]
    return options | {"aws_conditional_put": "etag", "timeout": "60s"}


def _from_environment() -> dict[str, str] | None:
    """What variables say, where they alone decide: keys, region and endpoint. None: ask boto3."""
    env = os.environ.get
    key, secret, name = env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"), _region_of_environment()
    if not (key and secret and name) or env("AWS_PROFILE") or env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
        return None
    endpoint = env("AWS_ENDPOINT_URL_S3") or env("AWS_ENDPOINT_URL")
    if not endpoint and os.path.isfile(os.path.expanduser(env("AWS_CONFIG_FILE") or "~/.aws/config")):
        return None  # it may name another
    options = {"aws_access_key_id": key, "aws_secret_access_key": secret, "aws_region": name}
    if token := env("AWS_SESSION_TOKEN") or env("AWS_SECURITY_TOKEN"):
        options["aws_session_token"] = token
    return options | ({"aws_endpoint": endpoint} if endpoint else {})


def _from_session(bucket: str) -> dict[str, str]:
    """Keys and region as boto3 finds them."""
    with errors(f"bucket {bucket}"):
        from botocore.exceptions import NoCredentialsError

        found = session().get_credentials()
        if found is None:
            raise NoCredentialsError
        keys = found.get_frozen_credentials()
    options = {
        "aws_access_key_id": keys.access_key or "",
        "aws_secret_access_key": keys.secret_key or "",
        "aws_region": region(bucket),
    }
    return options | ({"aws_session_token": keys.token} if keys.token else {})


def _region_of_environment() -> str | None:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")


def home_region() -> str:
    """The region that is set, whatever a bucket's is."""
    return os.environ.get("AWS_REGION") or session().region_name or "us-east-1"


def region(bucket: str) -> str:
    """The bucket's region, which also says that the bucket is there.

    Raises:
        StorageError: it is not, or not for these credentials.
    """
    if bucket not in _regions:
        found = check(bucket)
        _regions[bucket] = str(found.get("BucketRegion") or client().meta.region_name)
    return _regions[bucket]


def check(bucket: str) -> dict[str, Any]:
    """Ask the bucket whether it is there now; returns its answer.

    Raises:
        StorageError: it is not, or not for these credentials.
    """
    what = f"bucket {bucket}"
    try:
        found: dict[str, Any] = ask(what, partial(client().head_bucket, Bucket=bucket))
    except NoObjectError:  # a HEAD has no body to say why: it can only mean the bucket
        raise StorageError(what, remedy=_REASONS["NoSuchBucket"]) from None
    except TransientError:
        raise
    except StorageError:
        ask(what, partial(client().list_objects_v2, Bucket=bucket, MaxKeys=1))  # its error names the reason
        raise
    return found


def ask(what: str, call: Callable[[], T]) -> T:
    """The result of a call of boto3 that may be made twice, made again while the server stumbles.

    Raises:
        NoObjectError: there is no such object.
        PreconditionError: it is not as demanded.
        StorageError: another, about `what`.
    """

    def once() -> T:
        with errors(what):
            return call()

    return patiently(once)


def listed(bucket: str, prefix: str, **more: Any) -> Iterator[dict[str, Any]]:
    """The objects below a prefix, in the order of their keys: Key, Size, LastModified, ETag.

    Raises:
        StorageError: the bucket cannot be listed.
    """
    while True:
        asked = {"Bucket": bucket, "Prefix": prefix, **more}
        page = ask(f"bucket {bucket} cannot be listed", partial(client().list_objects_v2, **asked))
        yield from page.get("Contents", ())
        if not page.get("IsTruncated"):
            return
        more["ContinuationToken"] = page["NextContinuationToken"]


def forget() -> None:
    """Read the settings anew at the next use."""
    client.cache_clear()
    session.cache_clear()
    _regions.clear()


@contextmanager
def errors(what: str) -> Iterator[None]:
    """Turn errors of boto3 into a StorageError about `what`.

    Raises:
        NoObjectError: there is no such object.
        PreconditionError: it is not as the request demanded.
        TransientError: the server stumbled.
        StorageError: anything else.
    """
    try:
        yield
    except MareyError:
        raise
    except Exception as exc:
        if (error := translated(what, exc)) is None:
            raise
        raise error from exc


def translated(what: str, exc: Exception) -> Exception | None:
    """The error for one of boto3; None if it is not boto3's."""
    from botocore import exceptions as boto
    from urllib3.exceptions import HTTPError  # of TLS in the middle of a body, which botocore lets through

    match exc:
        case boto.ClientError():
            code = error_code(exc)
            if code in _MISSING_KEYS:
                return NoObjectError(str(exc))
            if code in ("PreconditionFailed", "412"):
                return PreconditionError(str(exc))
            message = exc.response.get("Error", {}).get("Message") or str(exc)
            return failure(what, _REASONS.get(code, message))
        case (
            boto.NoCredentialsError() | boto.PartialCredentialsError() | boto.CredentialRetrievalError()
            | boto.ProfileNotFound() | boto.SSOError() | boto.ConfigParseError() | boto.InvalidConfigError()
            | boto.NoRegionError()
        ):  # fmt: skip
            return StorageError(what, remedy=f"{_NO_CREDENTIALS} ({exc})")
        case boto.ConnectionError() | boto.HTTPClientError() | boto.IncompleteReadError() | HTTPError():
            return failure(what, f"{_UNREACHABLE}: {exc}")
        case boto.BotoCoreError() | ValueError():  # ValueError: an endpoint that is no URL
            return StorageError(what, remedy=str(exc))
    return None


def error_code(exc: Any) -> str:
    """S3's short name of a ClientError, or the HTTP status; empty for other errors."""
    return str(getattr(exc, "response", {}).get("Error", {}).get("Code", ""))


def failure(what: str, text: str) -> StorageError:
    """The error for what a server, or deltalake about it, says in `text`."""
    reason = _plain(text)
    transient = reason in _TRANSIENT or reason.startswith(_UNREACHABLE)
    return (TransientError if transient else StorageError)(what, remedy=reason)


def _plain(text: str) -> str:
    """What is known of an answer in one short line, else the answer itself."""
    flat = " ".join(re.sub(r"\x1b\[[0-9;]*m|↳", "", text).split())
    for code, reason in _REASONS.items():
        if not code.isdigit() and f"<Code>{code}</Code>" in flat:
            return reason
    if "File already exists" in flat:  # a 409 while it check-pointed what it had committed
        return _REASONS["OperationAborted"]
    if "Invalid table version" in flat:  # deltalake took a 409 for another's commit and did not find that
        return _REASONS["OperationAborted"]
    if found := re.search(r"non-2xx status code:? *(\d+)", flat):
        status = found.group(1)
        return _REASONS.get(status, _REASONS["500"] if status[0] == "5" or status == "409" else flat[:300])
    if any(sign in flat for sign in _BROKEN):
        return flat[:300] if flat.startswith(_UNREACHABLE) else f"{_UNREACHABLE}: {flat[:200]}"
    return flat[:300]


@cache
def session() -> boto3.Session:
    """The settings of this process, as every AWS tool finds them."""
    import boto3

    return boto3.Session()
