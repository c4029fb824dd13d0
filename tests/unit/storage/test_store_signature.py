"""Our signatures are those that botocore and the minio client make."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import SplitResult, parse_qsl, unquote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from minio.credentials import Credentials as MinioCredentials
from minio.signer import sign_v4_s3

from pipeline.storage.signature import NO_BODY, Signer, path_of, query_of

HOST, REGION = "store.example.org:9000", "eu-west-1"
KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC))


@given(key=KEYS, prefix=st.text(st.characters(codec="utf-8"), max_size=40), now=MOMENTS, secret=st.text(min_size=1))
def test_every_key_and_prefix_is_signed_as_the_libraries_do(key: str, prefix: str, now: datetime, secret: str) -> None:
    signer = Signer(HOST, "access", secret, REGION)
    for path, query in (
        (path_of("images", key), ""),
        (path_of("images"), query_of([("prefix", prefix), ("list-type", "2"), ("continuation-token", key)])),
    ):
        ours = signer.headers(path, query, now.timestamp())
        moment = f"{now:%Y%m%dT%H%M%SZ}"
        assert ours["x-amz-date"] == moment

        url = f"http://{HOST}{path}" + (f"?{query}" if query else "")
        request = AWSRequest("GET", url, headers={"X-Amz-Date": moment, "X-Amz-Content-SHA256": NO_BODY})
        request.context["timestamp"] = moment
        botocore = S3SigV4Auth(Credentials("access", secret), "s3", REGION)
        signature = botocore.signature(botocore.string_to_sign(request, botocore.canonical_request(request)), request)
        assert ours["Authorization"].endswith(f"Signature={signature}")

        minio = sign_v4_s3(
            method="GET",
            url=SplitResult("http", HOST, path, query, ""),
            region=REGION,
            headers={"Host": HOST, "x-amz-content-sha256": NO_BODY, "x-amz-date": moment},
            credentials=MinioCredentials("access", secret),
            content_sha256=NO_BODY,
            date=now,
        )
        assert ours["Authorization"] == minio["Authorization"]


def test_a_new_day_has_a_new_key() -> None:
    signer = Signer(HOST, "access", "secret", REGION)
    evening = datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC).timestamp()
    for now in (evening, evening + 1, evening):
        fresh = Signer(HOST, "access", "secret", REGION)
        assert signer.headers("/images/a", "", now) == fresh.headers("/images/a", "", now)


@given(key=KEYS)
def test_a_path_leads_back_to_its_key(key: str) -> None:
    path = path_of("images", key)
    assert path.isascii()
    assert not set(path) & set("?#+ &\n'\"")
    assert unquote(path) == f"/images/{key}"


def test_dots_in_a_key_stay_what_they_are() -> None:
    assert path_of("images", "a/../b/./c//d.png") == "/images/a/../b/./c//d.png"


@given(pairs=st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8"))))
def test_a_query_leads_back_to_its_parameters(pairs: dict[str, str]) -> None:
    assert dict(parse_qsl(query_of(pairs.items()), keep_blank_values=True)) == pairs
