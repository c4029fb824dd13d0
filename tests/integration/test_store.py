"""The store's client against the real embedded store, with and without a proxy in front that misbehaves."""

from __future__ import annotations

import hashlib
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from pydantic import SecretStr

from pipeline.errors import (
    BucketMissing,
    ConfigurationError,
    ImageRejected,
    ObjectMissing,
    StoreError,
    StoreRefused,
    StoreUnreachable,
)
from pipeline.settings import Settings
from pipeline.storage import listing, reader
from pipeline.storage.objects import ObjectStore
from tests.integration.misbehaving import Plan, Proxy, misbehaving

ODD_KEYS = (
    "a b.png",
    " leading and trailing ",
    "quotes ' and \".png",
    "per%cent %2F %.png",
    "plus+plus.png",
    "line\nbreak\tand tab.png",
    "<xml>&amp;.png",
    "Ünïcödé 图像 🪙.png",
    "..dots..png",
    "a/.hidden/b..c/d.png",
    "question?mark#hash&x=1;y,z.png",
    "back\\slash~tilde*star(brackets)[].png",
    ("k" * 100 + "/") * 9 + "k" * 115,  # 1,024 bytes, the most that S3 allows
)


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return ObjectStore.from_settings(settings)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses as short as a test's patience."""
    monkeypatch.setattr(reader, "FIRST_PAUSE", 0.001)


def over(settings: Settings, proxy: Proxy, timeout: float = 5) -> ObjectStore:
    return ObjectStore.from_settings(settings.model_copy(update={"s3_endpoint": proxy.address, "s3_timeout": timeout}))


def contents(count: int, size: int) -> dict[str, bytes]:
    rng = np.random.Generator(np.random.PCG64(3))
    return {f"coins/{number:04d}.png": rng.bytes(size) for number in range(count)}


def put_all(store: ObjectStore, objects: dict[str, bytes]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: store.put_image(item[0], item[1], "image/png"), objects.items()))


# -- what is read


def test_odd_keys_are_listed_read_and_linked_as_they_are(store: ObjectStore) -> None:
    objects = {key: hashlib.sha256(key.encode()).digest() for key in ODD_KEYS}
    put_all(store, objects)
    assert len(max(objects, key=len)) == 1024
    assert {item.key for item in store.list_images("")} == set(objects)
    for key, data in objects.items():
        assert store.get_image(key, 100) == data, key
        with urllib.request.urlopen(store.presigned(key, 60)) as answer:
            assert answer.read() == data, key
        assert key in {item.key for item in store.list_images(key)}
        store._client.delete_object(Bucket=store.image_bucket, Key=key)
    assert list(store.list_images("")) == []


def test_what_is_fetched_is_said_as_it_was_read_not_as_it_was_listed(store: ObjectStore) -> None:
    store.put_image("a.png", b"one", "image/png")
    (listed,) = store.list_images("")
    before = store.fetch_image("a.png", 100)
    assert (before.data, before.bytes, before.etag) == (b"one", 3, listed.etag)
    assert abs((before.last_modified - listed.last_modified).total_seconds()) <= 1
    store.put_image("a.png", b"three", "image/png")
    after = store.fetch_image("a.png", 100)
    assert (after.data, after.bytes) == (b"three", 5)
    assert after.etag != listed.etag
    assert [item.etag for item in store.list_images("")] == [after.etag]


def test_an_empty_object_is_read_as_empty(store: ObjectStore) -> None:
    store.put_image("empty.png", b"", "image/png")
    assert store.fetch_image("empty.png", 10).data == b""


def test_what_is_gone_is_missing_and_a_missing_bucket_is_said(settings: Settings, store: ObjectStore) -> None:
    with pytest.raises(ObjectMissing, match="no object 'never"):
        store.fetch_image("never.png", 10)
    nowhere = ObjectStore.from_settings(settings.model_copy(update={"image_bucket": "nosuch"}))
    for ask in (lambda: list(nowhere.list_images("")), lambda: nowhere.get_image("a.png", 10)):
        with pytest.raises(BucketMissing, match="TIDEMARK_IMAGE_BUCKET"):
            ask()


def test_more_than_the_limit_is_not_downloaded(settings: Settings, store: ObjectStore) -> None:
    store.put_image("large.png", bytes(40 << 20), "image/png")
    store.put_image("just.png", bytes(1000), "image/png")
    with misbehaving(settings.require_store()[0], Plan()) as proxy:
        through = over(settings, proxy)
        assert len(through.get_image("just.png", 1000)) == 1000
        with pytest.raises(ImageRejected, match="larger than 999 bytes") as rejected:
            through.get_image("just.png", 999)
        assert rejected.value.code == "too_large"
        with pytest.raises(ImageRejected, match="larger than"):
            through.get_image("large.png", 1 << 20)
        assert proxy.sent < 20 << 20  # what the sockets' buffers took before the connection was closed


# -- a store that misbehaves


def test_a_misbehaving_store_costs_retries_and_no_object(
    settings: Settings, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", 20)  # many pages of few objects
    objects = contents(240, 3000) | {"coins/large.png": bytes(range(256)) * 4096}
    put_all(store, objects)
    plan = Plan(seed=5, hang=0.02, reset=0.08, busy=0.08, error=0.05, cut=0.08, stall=0.02, delay=0.05)
    with misbehaving(settings.require_store()[0], plan) as proxy:
        through = over(settings, proxy, timeout=2)
        listed = list(through.list_images("coins/"))
        assert [item.key for item in listed] == sorted(objects)
        assert through.retries >= 3
        # Every page came once, and none from the start again.
        pages = [parse_qs(urlsplit(target).query) for _, target in proxy.served_by_now(13)]
        tokens = [page.get("continuation-token", [""])[0] for page in pages]
        assert len(tokens) == len(set(tokens)) == 13
        with ThreadPoolExecutor(8) as pool:
            fetched = list(pool.map(lambda item: through.fetch_image(item.key, 1 << 22), listed))
        for item, image in zip(listed, fetched, strict=True):
            assert image.data == objects[item.key], item.key
            assert image.etag == item.etag
        assert set(proxy.faults) == {"hang", "reset", "busy", "error", "cut", "stall", "delay"}
        assert through.retries >= proxy.faults.total() - proxy.faults["delay"] > 50


def test_artefacts_are_read_through_it_as_well(settings: Settings, store: ObjectStore, quick: None) -> None:
    store.put_artifact("a/b.bin", bytes(100_000))
    with misbehaving(settings.require_store()[0], Plan(seed=1, cut=0.5, reset=0.5)) as proxy:
        assert over(settings, proxy).get_artifact("a/b.bin") == bytes(100_000)
        assert proxy.faults.total() == 3


def test_a_store_that_hangs_is_given_up_after_a_bounded_time(settings: Settings, quick: None) -> None:
    with misbehaving(settings.require_store()[0], Plan(hang=1, in_a_row=100)) as proxy:
        through = over(settings, proxy, timeout=0.3)
        for ask in (lambda: list(through.list_images("")), lambda: through.get_image("a.png", 10)):
            start = time.monotonic()
            with pytest.raises(StoreUnreachable, match="does not answer") as caught:
                ask()
            assert time.monotonic() - start < 10
            assert "\n" not in str(caught.value)
        assert proxy.faults["hang"] == 2 * reader.ATTEMPTS + 1  # once for whether the store serves others


def test_a_body_that_trickles_in_is_given_up_after_a_bounded_time(
    settings: Settings, store: ObjectStore, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "ATTEMPTS", 2)
    store.put_image("slow.png", bytes(10_000), "image/png")  # 200 seconds at this pace
    with misbehaving(settings.require_store()[0], Plan(always={"slow.png": "trickle"})) as proxy:
        through = over(settings, proxy, timeout=5)  # of silence, which there is none here
        assert through._reader._slowest == 50
        monkeypatch.setattr(through._reader, "_slowest", 1)
        start = time.monotonic()
        with pytest.raises(StoreUnreachable):
            through.get_image("slow.png", 1 << 20)
        assert 2 <= time.monotonic() - start < 30  # so long for each attempt


def test_no_attempt_begins_when_patience_is_at_its_end(
    settings: Settings, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with misbehaving(settings.require_store()[0], Plan(hang=1, in_a_row=100)) as proxy:
        through = over(settings, proxy, timeout=1)
        monkeypatch.setattr(through._reader, "_patience", 1.8)
        with pytest.raises(StoreUnreachable):
            through.get_image("a.png", 10)
        assert proxy.faults["hang"] == 2 + 1  # as above


# -- one object's own trouble


def test_a_refused_object_is_rejected_and_the_others_are_read(settings: Settings, store: ObjectStore) -> None:
    put_all(store, {"secret.png": b"1", "open.png": b"2"})
    with misbehaving(settings.require_store()[0], Plan(always={"secret.png": "refuse"})) as proxy:
        through = over(settings, proxy)
        with pytest.raises(ImageRejected, match="check the rights on this key") as rejected:
            through.fetch_image("secret.png", 10)
        assert rejected.value.code == "refused"
        assert through.get_image("open.png", 10) == b"2"
        assert through.retries == 0  # a refusal is no accident


def test_an_object_that_the_store_always_fails_on_is_rejected(
    settings: Settings, store: ObjectStore, quick: None
) -> None:
    put_all(store, {"rotten.png": b"1", "torn.png": bytes(1000), "open.png": b"2"})
    plan = Plan(always={"rotten.png": "error", "torn.png": "cut"})
    with misbehaving(settings.require_store()[0], plan) as proxy:
        through = over(settings, proxy)
        for key, says in (("rotten.png", "though it serves others"), ("torn.png", "its copy is damaged")):
            with pytest.raises(ImageRejected, match=says) as rejected:
                through.fetch_image(key, 10_000)
            assert rejected.value.code == "refused"
        assert proxy.faults == {"error": reader.ATTEMPTS, "cut": reader.ATTEMPTS}
        assert through.get_image("open.png", 10) == b"2"


def test_a_store_that_fails_on_everything_is_no_objects_trouble(
    settings: Settings, store: ObjectStore, quick: None
) -> None:
    store.put_image("a.png", b"1", "image/png")
    for fault, says in (("error", "InternalError"), ("busy", "SlowDown"), ("cut", "broke off"), ("reset", "broke off")):
        with (
            misbehaving(settings.require_store()[0], Plan(**{fault: 1}, in_a_row=100)) as proxy,
            pytest.raises(StoreError, match=says),
        ):
            over(settings, proxy).fetch_image("a.png", 10)


def test_wrong_credentials_are_not_taken_for_one_objects_trouble(settings: Settings, store: ObjectStore) -> None:
    store.put_image("a.png", b"1", "image/png")
    for wrong in ({"s3_secret_key": SecretStr("wrong")}, {"s3_access_key": SecretStr("wrong")}):
        stranger = ObjectStore.from_settings(settings.model_copy(update=wrong))
        with pytest.raises(StoreRefused, match="TIDEMARK_S3_SECRET_KEY"):
            stranger.fetch_image("a.png", 10)
        with pytest.raises(StoreRefused, match="TIDEMARK_S3_SECRET_KEY"):
            list(stranger.list_images(""))


# -- links


def test_a_link_needs_no_credentials_and_ends(store: ObjectStore) -> None:
    store.put_image("a b.png", b"hello", "image/png")
    with urllib.request.urlopen(store.presigned("a b.png", 60)) as answer:
        assert answer.read() == b"hello"
    short = store.presigned("a b.png", 1)
    time.sleep(2.1)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(short)
    refused.value.close()
    assert refused.value.code in (400, 403)  # stores differ in this
    for seconds in (0, 7 * 24 * 3600 + 1):
        with pytest.raises(ConfigurationError, match="seven days"):
            store.presigned("a b.png", seconds)
