"""An SQS queue, or one of a server that speaks its protocol: settings as every AWS tool finds them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from pipeline import s3

WAIT_S = 20
"""Seconds of a long poll, the most that SQS allows."""

HIDDEN_S = 300
"""Seconds for which a message that was received is not given to others."""

_REFUSALS = ("InvalidMessageContents", "InvalidParameterValue")  # the latter of one that is too large

_HOST = re.compile(r"https://sqs\.([a-z0-9-]+)\.amazonaws\.com")


@dataclass(frozen=True)
class Message:
    """`tries` is how often it was received, this time included."""

    body: str
    receipt: str
    tries: int


class Queue:
    """Messages to be worked on. One that is neither deleted nor buried comes again."""

    def __init__(self, url: str) -> None:
        """Find the queue.

        Raises:
            StorageError: there is no such queue, or it cannot be reached.
        """
        self.url = url
        self._client = _client(url)
        asked = ["RedrivePolicy"]
        with self._errors():
            found = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=asked)
            policy = json.loads(found.get("Attributes", {}).get("RedrivePolicy", "{}"))
            self.dead_letter = self._url_of(policy.get("deadLetterTargetArn", ""))

    def receive(self, wait_s: int = WAIT_S) -> list[Message]:
        """Up to ten messages, waiting for the first.

        Raises:
            StorageError: the queue cannot be read.
        """
        with self._errors():
            found = self._client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=wait_s,
                VisibilityTimeout=HIDDEN_S,
                AttributeNames=["ApproximateReceiveCount"],
            )
        return [
            Message(item["Body"], item["ReceiptHandle"], int(item["Attributes"]["ApproximateReceiveCount"]))
            for item in found.get("Messages", ())
        ]

    def delete(self, message: Message) -> None:
        """The message is worked on."""
        with self._errors():
            self._client.delete_message(QueueUrl=self.url, ReceiptHandle=message.receipt)

    def again(self, message: Message, after_s: int) -> None:
        """Give the message again after some seconds."""
        with self._errors():
            self._client.change_message_visibility(
                QueueUrl=self.url, ReceiptHandle=message.receipt, VisibilityTimeout=after_s
            )

    def bury(self, message: Message, reason: str) -> bool:
        """Move a message to the dead-letter queue with the reason; False if the queue has none."""
        if not self.dead_letter:
            return False
        told = {"reason": {"DataType": "String", "StringValue": reason[:1000]}}
        with self._errors():
            self._client.send_message(
                QueueUrl=self.dead_letter, MessageBody=message.body, MessageAttributes=told
            )
        self.delete(message)
        return True

    def _url_of(self, arn: str) -> str:
        if not arn:
            return ""
        *_, account, name = arn.split(":")
        found = self._client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)
        return str(found["QueueUrl"])

    def _errors(self) -> Any:
        return s3.errors(f"queue {self.url}")


def send(url: str, body: str) -> str:
    """Put a message into a queue.

    Returns:
        Why the queue refuses this message for its size or content; empty if it took it.

    Raises:
        StorageError: it cannot be reached, or is not there.
    """
    with s3.errors(f"queue {url}"):
        try:
            _client(url).send_message(QueueUrl=url, MessageBody=body)
        except ClientError as exc:
            if s3.error_code(exc) not in _REFUSALS:
                raise
            return f"queue {url} refuses it: {exc.response['Error'].get('Message', s3.error_code(exc))}"
    return ""


def _client(url: str) -> Any:
    """The client for a queue: of the region that Amazon's address names, else of the one that is set."""
    found = _HOST.match(url)
    with s3.errors("SQS"):
        return _made(s3.session(), found[1] if found else s3.home_region())


@cache
def _made(session: boto3.Session, region: str) -> Any:
    # Long polls answer after WAIT_S; a dead server is to be noticed soon after.
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=10, read_timeout=40
    )
    return session.client("sqs", config=config, region_name=region)
