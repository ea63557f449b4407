"""Messages about analyses, after their commit: to a webhook, a queue, or both; at least once, with an id.

What is to be told is put into the lake before the commit and removed when it was delivered:

    <lake>/_outbox/<attempt_id>.json

A worker that is killed in between leaves it there, and the next run delivers it. So may a message come twice,
with the same `Id`. One that a receiver refuses for what it holds would be refused each time, and the others
with it: it is given up, and a line says so.

The form is that of Amazon Rekognition Video's completion message where the fields match (JobId, Status, API,
JobTag, Timestamp, Video); see its Developer Guide, "Reference: Video analysis results notification".
"""

from __future__ import annotations

import fnmatch
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import urllib3

from pipeline.config import NotifyConfig
from pipeline.errors import StorageError, TransientError
from pipeline.lake import Lake
from pipeline.lake.lookup import histories
from pipeline.lake.records import ENDED, Analysis
from pipeline.lake.tables import OUTBOX
from pipeline.pool import ForbiddenError, cause, pool

_TIMEOUT = urllib3.Timeout(connect=5, read=20)
_PAUSES_S = (0.0, 1.0, 2.0)  # between four tries
_LATER = (429, 500, 502, 503, 504)
_OF_RECEIVER = (401, 402, 403, 404, 405, 407, 408, 410, 425, 429)  # of 4xx; the others are about the message
_OLD = timedelta(days=1)  # an attempt that has not ended in this time will not be told of
_REST_S = 60.0  # for which nothing is sent after a failure: a receiver that is away must not hold up the work
_BLOCK = 500  # messages left behind that are looked up at once
_TOLD = ("label", "source", "t_start", "t_end", "score", "track_ids", "zone", "direction")  # of an event

Message = dict[str, Any]


class Notifier:
    """Tells of analyses of one lake. Without webhook and queue it does nothing."""

    def __init__(self, lake: Lake, settings: NotifyConfig, say: Callable[[str], None]) -> None:
        self._lake, self._settings, self._say = lake, settings, say
        self.is_on = bool(settings.webhook or settings.queue)
        self._rests_until = 0.0

    def expect(self, row: Analysis, events: Iterable[Mapping[str, Any]]) -> None:
        """Note what is to be told of an attempt, before its commit.

        Raises:
            StorageError: the lake cannot be written.
        """
        if not self.is_on or row.status not in ENDED:
            return
        told = [analysis_message(row), *self._of_events(row, events)]
        body = {"video_id": row.video_id, "messages": told}
        self._lake.location.create(_name(row.attempt_id), json.dumps(body, default=str).encode())

    def committed(self, attempt_id: str) -> None:
        """Deliver what was noted; what cannot be delivered stays for the next run."""
        if self.is_on:
            self._deliver(attempt_id, self._read(attempt_id))

    def dropped(self, attempt_id: str) -> None:
        """The attempt was not committed: there is nothing to tell."""
        if self.is_on:
            self._lake.location.remove(_name(attempt_id))

    def deliver_left(self) -> None:
        """Deliver what earlier runs left, if it was committed; the rest is given up after a day."""
        names = self._lake.location.names(OUTBOX) if self.is_on else []
        for begin in range(0, len(names), _BLOCK):
            left = [name.removesuffix(".json") for name in names[begin : begin + _BLOCK]]
            bodies = {attempt_id: body for attempt_id in left if (body := self._read(attempt_id))}
            found = histories(self._lake, {body["video_id"] for body in bodies.values()})
            for attempt_id, body in bodies.items():
                rows = found[body["video_id"]].of_attempt(attempt_id)
                if any(row.status in ENDED for row in rows):
                    self._deliver(attempt_id, body)
                elif not rows or _is_old(rows):
                    self.dropped(attempt_id)
            if self._rests:
                return

    @property
    def _rests(self) -> bool:
        return time.monotonic() < self._rests_until

    def _deliver(self, attempt_id: str, body: Message | None) -> None:
        if self._rests:
            return
        try:
            for message in body["messages"] if body else ():
                for refusal in send(self._settings, message):
                    self._say(f"message {message['Id']} is given up: {refusal}")
        except StorageError as exc:
            self._rests_until = time.monotonic() + _REST_S
            self._say(f"messages are not delivered now, a later run tries again: {exc}")
            return
        self._lake.location.remove(_name(attempt_id))

    def _read(self, attempt_id: str) -> Message | None:
        data = self._lake.location.read(_name(attempt_id))
        return None if data is None else dict(json.loads(data))

    def _of_events(self, row: Analysis, events: Iterable[Mapping[str, Any]]) -> Iterator[Message]:
        wanted = self._settings
        for event in events if wanted.events and row.succeeded else ():
            fits = any(fnmatch.fnmatchcase(str(event["label"]), pattern) for pattern in wanted.events)
            camera = fnmatch.fnmatchcase(row.camera or "", wanted.cameras)
            if fits and camera and float(event["score"] or 0.0) >= wanted.min_score:
                yield event_message(row, event)


def analysis_message(row: Analysis) -> Message:
    """One per analysis. `Id` is the same however often it is sent."""
    message = _common(row, row.attempt_id, "Analysis") | {"AnalysisStatus": row.status}
    if row.succeeded:
        return message | {"Rows": row.rows}
    return message | {"Error": {"Code": row.error_code, "Message": row.error}}


def event_message(row: Analysis, event: Mapping[str, Any]) -> Message:
    """One per event that the filter takes: columns of the table `events`, its times in UTC as in ISO 8601."""
    told = {key: event[key] for key in _TOLD}
    for key in ("start_utc", "end_utc"):
        told[key] = event[key] and event[key].isoformat(timespec="microseconds")
    return _common(row, f"{row.attempt_id}-{event['event_id']}", "Event") | {"Event": told}


def _common(row: Analysis, key: str, kind: str) -> Message:
    return {
        "Id": key,
        "JobId": row.attempt_id,
        "Status": "SUCCEEDED" if row.succeeded else "FAILED",
        "API": f"marey/{kind}",
        "JobTag": row.camera,
        "Timestamp": int(datetime.now(UTC).timestamp() * 1000),
        "Video": _video(row.uri),
        "VideoId": row.video_id,
    }


def _video(uri: str) -> Message:
    if not uri.startswith("s3://"):
        return {"Uri": uri}
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return {"Uri": uri, "S3Bucket": bucket, "S3ObjectName": key}


def send(settings: NotifyConfig, message: Message) -> list[str]:
    """Hand a message to the webhook and the queue that are set.

    Returns:
        Why those that refuse this message for good do so.

    Raises:
        StorageError: one of them did not take it. The address is named without what stands after its host.
    """
    body = json.dumps(message, default=str)
    refusals = []
    if settings.webhook:
        refusals.append(_post(settings.webhook, body, str(message["Id"])))
    if settings.queue:
        from pipeline.sqs import send as put

        refusals.append(put(settings.queue, body))
    return [refusal for refusal in refusals if refusal]


def _post(address: str, body: str, key: str) -> str:
    """Post a message, again while the receiver stumbles; returns why it refuses it, empty if it took it."""
    for pause_s in _PAUSES_S:
        try:
            return _posted(address, body, key)
        except TransientError:
            time.sleep(pause_s)
    return _posted(address, body, key)


def _posted(address: str, body: str, key: str) -> str:
    place = f"webhook {urlsplit(address).hostname}"  # paths and queries of webhooks are often secrets
    headers = {"content-type": "application/json", "idempotency-key": key}
    once: dict[str, Any] = {"retries": False, "redirect": False}  # urllib3 logs what it retries
    try:
        answer = pool(listed=False).request(
            "POST", address, body=body.encode(), headers=headers, timeout=_TIMEOUT, **once
        )
    except ForbiddenError as exc:
        raise StorageError(f"{place} may not be asked", remedy=str(exc)) from exc
    except urllib3.exceptions.HTTPError as exc:
        raise TransientError(f"{place} cannot be reached", remedy=cause(exc)) from exc
    status = answer.status
    if 200 <= status < 300:
        return ""
    if 400 <= status < 500 and status not in _OF_RECEIVER:
        return f"{place} refuses it (got {status})"
    raise (TransientError if status in _LATER else StorageError)(f"{place} does not take it", got=status)


def _is_old(rows: Sequence[Analysis]) -> bool:
    began = rows[0].started_at
    return began is None or datetime.now(UTC) - began > _OLD


def _name(attempt_id: str) -> str:
    return f"{OUTBOX}/{attempt_id}.json"
