"""The object store: images are read, artefacts are written once and never changed; its errors as ours.

Reading goes through `StoreReader`, which is cheap and patient; writing, asking and deleting through boto3.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO, Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from pipeline.errors import ConfigurationError, ImageRejected, ObjectMissing
from pipeline.records import StoreObject
from pipeline.settings import Settings
from pipeline.storage.connections import CONNECT_SECONDS
from pipeline.storage.listing import fetch_page, list_objects, plain_etag
from pipeline.storage.reader import CUT_SHORT, FAILURES, Answer, Answered, StoreReader
from pipeline.storage.store_errors import StoreErrors, is_of_the_object

log = logging.getLogger(__name__)

LONGEST_LINK = 7 * 24 * 3600  # seconds; a signature of version 4 holds no longer
OTHERS = 3  # objects to ask for before the store counts as down
MOST_OF_AN_ARTEFACT = 1 << 40  # bytes; our own files are read whole


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """An object as it was when it was read, which may not be as it was listed."""

    data: bytes
    etag: str
    bytes: int
    last_modified: datetime


class ObjectStore:
    """One bucket of images, which is only read, and one of artefacts. Safe to share between threads."""

    def __init__(
        self, client: Any, reader: StoreReader, endpoint: str, image_bucket: str, artifact_bucket: str
    ) -> None:
        self._client = client
        self._reader = reader
        self._translated = StoreErrors(endpoint, image_bucket).translated
        self.image_bucket = image_bucket
        self.artifact_bucket = artifact_bucket

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """A client for the configured store; nothing is sent yet.

        Raises:
            ConfigurationError: No store is configured, or its address is not a URL.
        """
        endpoint, access_key, secret_key = settings.require_store()
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=settings.s3_timeout,
            max_pool_connections=32,
            signature_version="s3v4",  # without it a link would be signed in the old way
            retries={"mode": "standard", "total_max_attempts": 4},
            s3={"addressing_style": "path"},
            # Stores that are not AWS know the new checksums only in part.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            reader = StoreReader(endpoint, access_key, secret_key, settings.s3_region, settings.s3_timeout)
            client = boto3.session.Session().client(
                "s3",
                endpoint_url=endpoint,
                aws_access_key_id=access_key,
                aws_secret_access_key=secret_key,
                region_name=settings.s3_region,
                config=config,
            )
        except ValueError as error:
            raise ConfigurationError(f"TIDEMARK_S3_ENDPOINT is not a URL such as http://host:9000 ({error})") from None
        return cls(client, reader, endpoint, settings.image_bucket, settings.artifact_bucket)

    @property
    def retries(self) -> int:
        """How many reads were tried again so far, because the store did not answer well."""
        return self._reader.retries

    # -- images

    def list_images(self, prefix: str) -> Iterator[StoreObject]:
        """Every object below a prefix of the image bucket, page by page; folder markers are left out."""
        return self._list(self.image_bucket, prefix)

    def first_image(self, prefix: str) -> StoreObject | None:
        """One of the first objects below a prefix of the image bucket, or None; costs one request."""
        with self._translated(self.image_bucket, prefix):
            # Some more than one, since folder markers are no objects here.
            page = fetch_page(self._reader, self.image_bucket, prefix, None, most_keys=20)
        return next(iter(page.objects), None)

    def fetch_image(self, key: str, max_bytes: int) -> Fetched:
        """An image's bytes and what the store says of them; no more than a limit is ever read.

        Raises:
            ObjectMissing: The key is gone.
            ImageRejected: The object is larger than the limit, or the store refuses just this one.
            StoreError: The store itself does not serve.
        """
        with self._translated(self.image_bucket, key):
            try:
                answer = self._reader.get(self.image_bucket, key, most=max_bytes, understand=lambda answer: answer)
            except Answered as refusal:
                if self._is_of_the_object(refusal, key):
                    raise _rejected(refusal) from refusal
                raise
            except TimeoutError as silence:
                if not self._serves_others(key, max_bytes):
                    raise
                try:
                    answer = self._ask(key, max_bytes)
                except TimeoutError:
                    raise ImageRejected(
                        "refused", "the store hangs on this object though it serves others: check it there"
                    ) from silence
        if answer.body is None:
            raise ImageRejected("too_large", f"larger than {max_bytes} bytes (ingest.max_bytes)")
        return Fetched(
            data=answer.body,
            etag=plain_etag(answer.headers.get("ETag", "")),
            bytes=len(answer.body),
            last_modified=_date(answer),
        )

    def _is_of_the_object(self, refusal: Answered, key: str) -> bool:
        """Whether a refusal concerns one object alone; where the answer does not say, a listing shows it."""
        known = is_of_the_object(refusal)
        return self._lists(key) if known is None else known

    def _serves_others(self, key: str, max_bytes: int) -> bool:
        """Whether other objects come while one does not; each is asked for once."""
        others: list[str] = []
        for prefix in (key.split("/")[0] + "/", ""):
            try:
                page = fetch_page(self._reader, self.image_bucket, prefix, None, most_keys=20, attempts=1)
            except FAILURES:
                return False
            others = others or [item.key for item in page.objects if item.key != key]
        for other in random.sample(others, min(len(others), OTHERS)):
            try:
                self._ask(other, max_bytes)
            except Answered as refusal:
                if refusal.status < 500:
                    return True
            except FAILURES:
                continue
            else:
                return True
        return False

    def _ask(self, key: str, max_bytes: int) -> Answer:
        return self._reader.get(self.image_bucket, key, most=max_bytes, understand=lambda answer: answer, attempts=1)

    def _lists(self, key: str) -> bool:
        try:
            fetch_page(self._reader, self.image_bucket, key, None, most_keys=1)
        except FAILURES:
            return False
        return True

    def get_image(self, key: str, max_bytes: int) -> bytes:
        """Only the bytes of `fetch_image`."""
        return self.fetch_image(key, max_bytes).data

    def presigned(self, key: str, seconds: int) -> str:
        """A link to an image that works without credentials for some time; nothing is sent.

        Raises:
            ConfigurationError: It is to work longer than a link can.
        """
        if not 1 <= seconds <= LONGEST_LINK:
            raise ConfigurationError(f"a link works for 1 to {LONGEST_LINK} seconds (seven days), not {seconds}")
        with self._translated(self.image_bucket, key):
            link: str = self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self.image_bucket, "Key": key}, ExpiresIn=seconds
            )
        return link

    def put_image(self, key: str, data: bytes, content_type: str) -> None:
        """Upload an image; only `tidemark push` and the demo do so."""
        with self._translated(self.image_bucket, key):
            self._client.put_object(Bucket=self.image_bucket, Key=key, Body=data, ContentType=content_type)

    def has_image(self, key: str, data: bytes) -> bool:
        """Whether the image bucket holds just these bytes under a key."""
        try:
            with self._translated(self.image_bucket, key):
                head = self._client.head_object(Bucket=self.image_bucket, Key=key)
        except ObjectMissing:
            return False
        # An ETag is the content's MD5 for an object put in one piece; otherwise the answer is no, and it is put again.
        return bool(head["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest())

    def delete_images(self, prefix: str) -> int:
        """Delete what lies below a prefix of the image bucket; only the demo does so, on its own images."""
        return self._delete(self.image_bucket, prefix)

    # -- artefacts

    def put_artifact(self, key: str, data: bytes | IO[bytes], content_type: str = "application/octet-stream") -> bool:
        """Write an artefact, bytes or a file from its start, once.

        Returns:
            False where the key exists already: artefacts do not change, so what is there stays.
        """
        if self.has_artifact(key):
            log.debug("%s exists already and stays", key)
            return False
        with self._translated(self.artifact_bucket, key):
            self._client.put_object(Bucket=self.artifact_bucket, Key=key, Body=data, ContentType=content_type)
        return True

    def has_artifact(self, key: str) -> bool:
        """Whether an artefact exists."""
        try:
            with self._translated(self.artifact_bucket, key):
                self._client.head_object(Bucket=self.artifact_bucket, Key=key)
        except ObjectMissing:
            return False
        return True

    def get_artifact(self, key: str) -> bytes:
        """An artefact's bytes; raises ObjectMissing."""
        with self._translated(self.artifact_bucket, key):
            body = self._reader.get(
                self.artifact_bucket, key, most=MOST_OF_AN_ARTEFACT, understand=lambda answer: answer.body
            )
        return body or b""

    def save_artifact(self, key: str, file: IO[bytes]) -> None:
        """Write an artefact's bytes to a file as they come; raises ObjectMissing."""
        with self._translated(self.artifact_bucket, key):
            body = self._client.get_object(Bucket=self.artifact_bucket, Key=key)["Body"]
            for part in body.iter_chunks(1 << 20):
                file.write(part)

    def list_artifacts(self, prefix: str) -> list[str]:
        """Keys of the artefacts below a prefix."""
        return [item.key for item in self._list(self.artifact_bucket, prefix)]

    def artifacts(self, prefix: str) -> Iterator[StoreObject]:
        """The artefacts below a prefix with their size and age, page by page."""
        return self._list(self.artifact_bucket, prefix)

    def delete_artifact(self, key: str) -> None:
        """Delete one artefact; nothing happens where it is gone."""
        with self._translated(self.artifact_bucket, key):
            self._client.delete_object(Bucket=self.artifact_bucket, Key=key)

    def delete_artifacts(self, prefix: str) -> int:
        """Delete the artefacts below a prefix; for forgetting a whole stream, and parts that were put together."""
        return self._delete(self.artifact_bucket, prefix)

    # -- buckets

    def make_buckets(self) -> None:
        """Create both buckets where they are missing."""
        for bucket in (self.image_bucket, self.artifact_bucket):
            with self._translated(bucket, ""):
                try:
                    self._client.head_bucket(Bucket=bucket)
                except ClientError as error:
                    if error.response["Error"]["Code"] not in {"404", "NoSuchBucket"}:
                        raise
                    self._client.create_bucket(Bucket=bucket)

    def clock(self) -> datetime | None:
        """What time it is by the store, to the second; None where it does not say."""
        with self._translated(self.artifact_bucket, ""):
            answer = self._client.list_objects_v2(Bucket=self.artifact_bucket, MaxKeys=1)
        try:
            return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        except (KeyError, ValueError):
            return None

    def _list(self, bucket: str, prefix: str) -> Iterator[StoreObject]:
        with self._translated(bucket, prefix):
            yield from list_objects(self._reader, bucket, prefix)

    def _delete(self, bucket: str, prefix: str) -> int:
        deleted = 0
        # One by one: DeleteObjects needs a checksum header that not every store understands.
        for item in self._list(bucket, prefix):
            with self._translated(bucket, item.key):
                self._client.delete_object(Bucket=bucket, Key=item.key)
            deleted += 1
        return deleted


def _rejected(refusal: Answered) -> ImageRejected:
    what = f"{refusal.code or 'no reason given'}, status {refusal.status}"
    if refusal.code == CUT_SHORT:
        return ImageRejected("refused", "the store breaks off at the same byte each time: its copy is damaged")
    if refusal.status == 500:
        return ImageRejected(
            "refused", f"the store fails on this object ({what}) though it serves others: check it there"
        )
    if refusal.code == "InvalidObjectState":
        return ImageRejected("refused", f"the store has moved it to an archive ({what}): restore it there")
    return ImageRejected("refused", f"the store refuses to hand it out ({what}): check the rights on this key")


def _date(answer: Answer) -> datetime:
    """When the object was last changed, to the second; 1970 where the store does not say."""
    try:
        return parsedate_to_datetime(answer.headers["Last-Modified"])
    except (KeyError, ValueError):
        return datetime.fromtimestamp(0, UTC)
