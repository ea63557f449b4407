"""Messages in which a bucket announces new objects.

Read are S3's own event message (also as Ceph and MinIO send it), the same wrapped by SNS, and EventBridge's
"Object Created". See Amazon S3, User Guide, "Event message structure" and "EventBridge event message".
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote_plus


def created(body: str) -> list[str]:
    """URIs of the objects that a message says were made; none of a message about other things.

    Raises:
        ValueError: it is no message of a bucket.
    """
    try:
        message = json.loads(body)
        if isinstance(message, dict) and "Message" in message and message.get("Type") == "Notification":
            message = json.loads(message["Message"])
        uris = _uris(message)
        "".join(uris).encode()  # a half of a surrogate pair, which JSON can write, is in no key
        return uris
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as exc:
        raise ValueError(f"not a message of a bucket: {type(exc).__name__} {exc}") from exc


def _uris(message: dict[str, Any]) -> list[str]:
    if message.get("Event") == "s3:TestEvent":  # sent when a notification is set up
        return []
    if message.get("detail-type") and message.get("source") == "aws.s3":
        detail = message["detail"]
        made = message["detail-type"] == "Object Created"
        return [f"s3://{detail['bucket']['name']}/{detail['object']['key']}"] if made else []
    uris = []
    for record in message["Records"]:
        bucket, key = record["s3"]["bucket"]["name"], record["s3"]["object"]["key"]
        if "ObjectCreated:" in record["eventName"]:
            uris.append(f"s3://{bucket}/{unquote_plus(key)}")  # in these messages alone keys are quoted
    return uris
