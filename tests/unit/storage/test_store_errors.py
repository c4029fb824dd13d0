"""What stores answer, as errors of ours."""

from __future__ import annotations

import errno
import socket
import ssl
from http.client import BadStatusLine, IncompleteRead, RemoteDisconnected

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.exceptions import SSLError as BotoSSLError

from pipeline.errors import BucketMissing, ObjectMissing, StoreError, StoreRefused, StoreUnreachable
from pipeline.storage.reader import CUT_SHORT, Answered, CutShort, Garbled
from pipeline.storage.store_errors import StoreErrors, is_of_the_object

ERRORS = StoreErrors("http://store:9000", "images")


@pytest.mark.parametrize(
    ("status", "code", "bucket", "error", "says"),
    [
        (404, "NoSuchBucket", "images", BucketMissing, "TIDEMARK_IMAGE_BUCKET"),
        (404, "NoSuchBucket", "other", BucketMissing, "TIDEMARK_ARTIFACT_BUCKET"),
        (404, "NoSuchKey", "images", ObjectMissing, "no object 'a.png'"),
        (404, "", "images", ObjectMissing, "no object 'a.png'"),
        (403, "AccessDenied", "images", StoreRefused, "TIDEMARK_S3_ACCESS_KEY"),
        (403, "", "images", StoreRefused, "TIDEMARK_S3_ACCESS_KEY"),
        (400, "ExpiredToken", "images", StoreRefused, "TIDEMARK_S3_ACCESS_KEY"),
        (403, "RequestTimeTooSkewed", "images", StoreRefused, "clock"),
        (400, "AuthorizationHeaderMalformed", "images", StoreRefused, "TIDEMARK_S3_REGION"),
        (301, "", "images", StoreRefused, "TIDEMARK_S3_REGION"),
        (500, CUT_SHORT, "images", StoreUnreachable, "broke off"),
        (503, "SlowDown", "images", StoreError, "SlowDown"),
    ],
)
def test_both_clients_answers_become_the_same_error(
    status: int, code: str, bucket: str, error: type[StoreError], says: str
) -> None:
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    for raised in (Answered(status, code), ClientError(response, "GetObject")):  # type: ignore[arg-type]
        with pytest.raises(error, match=says) as caught, ERRORS.translated(bucket, "a.png"):
            raise raised
        assert type(caught.value) is error
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("raised", "says"),
    [
        (ConnectionRefusedError("refused"), "does not answer"),
        (TimeoutError("late"), "does not answer"),
        (OSError(errno.EHOSTUNREACH, "no route"), "does not answer"),
        (socket.gaierror("no such host"), "does not answer"),
        (EndpointConnectionError(endpoint_url="http://store:9000"), "does not answer"),
        (RemoteDisconnected("gone"), "broke off"),
        (BadStatusLine("220 smtp"), "broke off"),
        (IncompleteRead(b""), "broke off"),
        (CutShort(7), "broke off"),
        (BrokenPipeError("gone"), "broke off"),
        (ssl.SSLEOFError("gone"), "broke off"),
        (ConnectionResetError("reset"), "broke off"),
        (ssl.SSLCertVerificationError("self-signed"), "AWS_CA_BUNDLE"),
        (BotoSSLError(endpoint_url="https://store", error="self-signed"), "AWS_CA_BUNDLE"),
    ],
)
def test_a_store_that_is_silent_is_unreachable(raised: Exception, says: str) -> None:
    with pytest.raises(StoreUnreachable, match=says), ERRORS.translated("images", "a.png"):
        raise raised


def test_what_is_no_s3_answer_blames_the_address() -> None:
    with pytest.raises(StoreError, match="TIDEMARK_S3_ENDPOINT"), ERRORS.translated("images", ""):
        raise Garbled("no listing")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AccessDenied", True),
        (403, "", True),
        (403, "InvalidObjectState", True),
        (400, "InvalidArgument", True),  # how rclone answers for a key with ".." in it
        (400, "KMS.DisabledException", True),
        (405, "MethodNotAllowed", True),
        (403, "SignatureDoesNotMatch", None),
        (500, "InternalError", None),
        (500, CUT_SHORT, None),
        (403, "InvalidAccessKeyId", False),
        (400, "ExpiredToken", False),
        (403, "RequestTimeTooSkewed", False),
        (401, "", False),
        (404, "NoSuchKey", False),
        (404, "NoSuchBucket", False),
        (301, "PermanentRedirect", False),
        (429, "", False),
        (503, "SlowDown", False),
        (502, "", False),
    ],
)
def test_a_refusal_is_the_objects_the_stores_or_not_known(status: int, code: str, expected: bool | None) -> None:
    assert is_of_the_object(Answered(status, code)) is expected
