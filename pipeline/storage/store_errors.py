"""What the object store answers, or does not answer, as errors of ours."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException

from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, HTTPClientError, ReadTimeoutError
from botocore.exceptions import ConnectionError as StoreConnectionError
from botocore.exceptions import SSLError as BotoSSLError

from pipeline.errors import BucketMissing, ObjectMissing, StoreError, StoreRefused, StoreUnreachable
from pipeline.naming import quoted
from pipeline.storage.reader import CUT_SHORT, Answered, CutShort, Garbled

# About who asks, whatever is asked for.
OF_CREDENTIALS = frozenset({"InvalidAccessKeyId", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
OF_REGION = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "InvalidRegion"})
OF_CLOCK = frozenset({"RequestTimeTooSkewed"})
_REFUSED = OF_CREDENTIALS | {"AccessDenied", "SignatureDoesNotMatch", "Forbidden", "403"}
BROKEN_OFF = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, ssl.SSLEOFError)
_MISSING = frozenset({"NoSuchKey", "NotFound", "404"})


@dataclass(frozen=True, slots=True)
class StoreErrors:
    """Translates the errors of one store's clients."""

    endpoint: str
    image_bucket: str

    @contextmanager
    def translated(self, bucket: str, key: str) -> Iterator[None]:
        """Turn what the clients raise inside into a StoreError."""
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
            raise self.answered(status, code, bucket, key) from error
        except Answered as error:
            raise self.answered(error.status, error.code, bucket, key) from error
        except Garbled as error:
            raise StoreError(
                f"{self.endpoint} does not answer like an S3 store ({error}): correct TIDEMARK_S3_ENDPOINT"
            ) from error
        except (*BROKEN_OFF, HTTPException, CutShort) as error:
            raise self._broke_off() from error
        except (BotoSSLError, ssl.SSLError) as error:
            raise StoreUnreachable(
                f"no secure connection to the store at {self.endpoint}: correct TIDEMARK_S3_ENDPOINT, or name the "
                "authority that signed its certificate in AWS_CA_BUNDLE"
            ) from error
        except (StoreConnectionError, ConnectTimeoutError, ReadTimeoutError, HTTPClientError, OSError) as error:
            raise StoreUnreachable(
                f"the store at {self.endpoint} does not answer: start it (embedded stack: `tidemark up`) "
                "or correct TIDEMARK_S3_ENDPOINT, then run this again"
            ) from error
        except BotoCoreError as error:
            raise StoreError(f"the store at {self.endpoint} failed on {quoted(key)}: {error}") from error

    def answered(self, status: int, code: str, bucket: str, key: str) -> StoreError:
        """The error for an answer that is not what was asked for."""
        if code == "NoSuchBucket":
            variable = "TIDEMARK_IMAGE_BUCKET" if bucket == self.image_bucket else "TIDEMARK_ARTIFACT_BUCKET"
            return BucketMissing(f"the store at {self.endpoint} has no bucket {bucket!r}: create it, or set {variable}")
        if code in OF_CLOCK:
            return StoreRefused(f"the store at {self.endpoint} keeps another time: set this machine's clock")
        if code in OF_REGION or status in (301, 307):
            return StoreRefused(
                f"the store at {self.endpoint} serves bucket {bucket!r} from another region: set TIDEMARK_S3_REGION, "
                "and TIDEMARK_S3_ENDPOINT where it names a region"
            )
        if code in _REFUSED or status in (401, 403):
            return StoreRefused(
                f"the store at {self.endpoint} refused access to bucket {bucket!r}: check "
                "TIDEMARK_S3_ACCESS_KEY, TIDEMARK_S3_SECRET_KEY and the rights they carry"
            )
        if code in _MISSING or status == 404:
            return ObjectMissing(f"the store has no object {quoted(key)} in bucket {bucket!r}")
        if code == CUT_SHORT:
            return self._broke_off()
        return StoreError(f"the store at {self.endpoint} failed on {quoted(key)}: {code} (status {status})")

    def _broke_off(self) -> StoreUnreachable:
        return StoreUnreachable(f"the connection to the store at {self.endpoint} broke off: run this again")


def is_of_the_object(answer: Answered) -> bool | None:
    """Whether a refused read is the matter of that one object; None where the answer alone does not say."""
    if answer.status in (301, 307, 401, 404, 408, 429) or answer.code in OF_CREDENTIALS | OF_REGION | OF_CLOCK:
        return False
    if answer.code == "SignatureDoesNotMatch" or answer.status == 500:
        return None
    return 400 <= answer.status < 500
