"""The object store: images are read, artefacts are written once and never changed. S3 by boto3, its errors as ours."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    HTTPClientError,
    ReadTimeoutError,
)
from botocore.exceptions import ConnectionError as StoreConnectionError

from pipeline.errors import (
    BucketMissing,
    ConfigurationError,
    ImageRejected,
    ObjectMissing,
    StoreError,
    StoreRefused,
    StoreUnreachable,
)
from pipeline.records import StoreObject
from pipeline.settings import Settings

log = logging.getLogger(__name__)

READ_ATTEMPTS = 3

_REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Forbidden", "403"}
_MISSING = {"NoSuchKey", "NotFound", "404"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """An object as it was when it was read, which may not be as it was listed."""

    data: bytes
    etag: str
    bytes: int
    last_modified: datetime


class ObjectStore:
    """One bucket of images, which is only read, and one of artefacts. Safe to share between threads."""

    def __init__(self, client: Any, endpoint: str, image_bucket: str, artifact_bucket: str) -> None:
        self._client = client
        self._endpoint = endpoint
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
            connect_timeout=5,
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
        return cls(client, endpoint, settings.image_bucket, settings.artifact_bucket)

    # -- images

    def list_images(self, prefix: str) -> Iterator[StoreObject]:
        """Every object below a prefix of the image bucket, page by page; folder markers are left out."""
        with self._translated(self.image_bucket, prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.image_bucket, Prefix=prefix)
            for page in pages:
                for item in page.get("Contents", ()):
                    if not item["Key"].endswith("/"):
                        yield StoreObject(
                            key=item["Key"],
                            bytes=item["Size"],
                            etag=item["ETag"].strip('"'),
                            last_modified=item["LastModified"],
                        )

    def fetch_image(self, key: str, max_bytes: int) -> Fetched:
        """An image's bytes and what the store says of them; no more than a limit is ever read.

        Raises:
            ObjectMissing: The key is gone.
            ImageRejected: The object is larger than the limit, or the store refuses this one key.
        """
        # The client retries a request, but not a body that breaks off under way.
        for attempt in range(READ_ATTEMPTS):
            try:
                return self._fetch(key, max_bytes)
            except StoreRefused as refused:
                raise ImageRejected(
                    "refused", "the store refuses to hand it out: check the rights on this key"
                ) from refused
            except StoreUnreachable:
                if attempt == READ_ATTEMPTS - 1:
                    raise
                time.sleep(0.5 * 2**attempt)
        raise AssertionError("unreachable")

    def _fetch(self, key: str, max_bytes: int) -> Fetched:
        with self._translated(self.image_bucket, key):
            answer = self._client.get_object(Bucket=self.image_bucket, Key=key)
            with answer["Body"] as body:
                data = body.read(max_bytes + 1) if answer["ContentLength"] <= max_bytes else None
        if data is None or len(data) > max_bytes:
            raise ImageRejected("too_large", f"larger than {max_bytes} bytes (ingest.max_bytes)")
        return Fetched(data=data, etag=answer["ETag"].strip('"'), bytes=len(data), last_modified=answer["LastModified"])

    def get_image(self, key: str, max_bytes: int) -> bytes:
        """Only the bytes of `fetch_image`."""
        return self.fetch_image(key, max_bytes).data

    def presigned(self, key: str, seconds: int) -> str:
        """A link to an image that needs no credentials, for up to seven days."""
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

    def put_artifact(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        """Write an artefact once.

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
            data: bytes = self._client.get_object(Bucket=self.artifact_bucket, Key=key)["Body"].read()
        return data

    def delete_artifacts(self, prefix: str) -> int:
        """Delete the artefacts below a prefix; for forgetting a whole stream."""
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

    def _delete(self, bucket: str, prefix: str) -> int:
        deleted = 0
        with self._translated(bucket, prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            for page in pages:
                # One by one: DeleteObjects needs a checksum header that not every store understands.
                for item in page.get("Contents", ()):
                    self._client.delete_object(Bucket=bucket, Key=item["Key"])
                    deleted += 1
        return deleted

    @contextmanager
    def _translated(self, bucket: str, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if code == "NoSuchBucket":
                raise BucketMissing(
                    f"the store at {self._endpoint} has no bucket {bucket!r}: create it, or set "
                    f"{'TIDEMARK_IMAGE_BUCKET' if bucket == self.image_bucket else 'TIDEMARK_ARTIFACT_BUCKET'}"
                ) from error
            if code in _REFUSED or status in (401, 403):
                raise StoreRefused(
                    f"the store at {self._endpoint} refused access to bucket {bucket!r}: check "
                    "TIDEMARK_S3_ACCESS_KEY, TIDEMARK_S3_SECRET_KEY and the rights they carry"
                ) from error
            if code in _MISSING or status == 404:
                raise ObjectMissing(f"the store has no object {key!r} in bucket {bucket!r}") from error
            raise StoreError(f"the store at {self._endpoint} failed on {key!r}: {code} (status {status})") from error
        except (StoreConnectionError, ConnectTimeoutError, ReadTimeoutError, HTTPClientError) as error:
            raise StoreUnreachable(
                f"the store at {self._endpoint} does not answer: start it (embedded stack: `tidemark up`) "
                "or correct TIDEMARK_S3_ENDPOINT, then run this again"
            ) from error
        except BotoCoreError as error:
            raise StoreError(f"the store at {self._endpoint} failed on {key!r}: {error}") from error
        except OSError as error:
            # A body that breaks off in the middle surfaces as urllib3's or the socket's own error.
            raise StoreUnreachable(
                f"the connection to the store at {self._endpoint} broke off: run this again"
            ) from error
