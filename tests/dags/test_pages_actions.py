"""What pages change and fetch in a running Airflow: roll back, pictures, the queue's file, figures for machines."""

from __future__ import annotations

import csv
import io
import re
import time
from urllib.parse import quote

import psycopg2
import pytest
import requests
from PIL import Image as Picture
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pipeline.records import Image
from pipeline.settings import Settings
from pipeline.storage import keys
from pipeline.storage.catalog import connect
from pipeline.storage.objects import ObjectStore
from pipeline.storage.registry import Registry
from tests.dags.airflow_server import AirflowServer, until
from tests.dags.conftest import EVIL, EVIL_KEY, HIDDEN, METRICS_TOKEN, TRAVERSAL, Get, reference

pytestmark = pytest.mark.stack

FORM = "/streams/flowers/models/1/rollback"
QUEUE = "/streams/flowers/queue"
LABELS = "/streams/flowers/labels"
PAGES = [
    "/",
    "/streams/flowers",
    "/streams/flowers/models",
    "/streams/flowers/models/1",
    "/streams/flowers/images",
    "/streams/flowers/queue",
    f"/streams/flowers/key?key={quote(EVIL_KEY, safe='')}",
    f"/streams/flowers/key?key={quote(TRAVERSAL, safe='')}",
]


def champion(settings: Settings) -> int:
    found = Registry.from_settings(settings).champion("flowers")
    assert found is not None
    return found.version


def token(get: Get, path: str = FORM) -> str:
    (found,) = re.findall(r'name="token" value="([^"]+)"', get(path, "admin").text)
    return str(found)


def drawn(get: Get, path: str) -> requests.Response:
    """A picture; on a busy machine it may not be ready when it is asked for first."""
    found: list[requests.Response] = []

    def ready() -> bool:
        found.append(get(path, "viewer"))
        return b"not ready" not in found[-1].content

    until(ready, 120)
    return found[-1]


@pytest.mark.parametrize("path", PAGES)
def test_hostile_names_are_text(get: Get, flowers: Settings, path: str) -> None:
    answer = get(path, "viewer")
    assert answer.status_code == 200
    assert "<script>" not in answer.text
    assert "root:" not in answer.text
    if path not in PAGES[:3]:
        assert "&lt;script&gt;" in answer.text


def test_readers_cannot_change_anything(get: Get, flowers: Settings) -> None:
    assert get(FORM, "viewer").status_code == 403
    assert "rollback" not in get("/streams/flowers/models", "viewer").text
    stolen = token(get)
    for user in ("viewer", "guest"):
        assert get(FORM, user, method="POST", data={"token": stolen}).status_code == 403
    assert get(FORM, method="POST", data={"token": stolen}).status_code == 303  # to the login page
    assert get(FORM, method="POST", data={"token": stolen}, headers={"Accept": "*/*"}).status_code == 401
    assert get("/streams/flowers/queue.csv", "viewer").status_code == 403
    assert champion(flowers) == 2


def test_forms_of_other_sites_change_nothing(get: Get, flowers: Settings) -> None:
    mine = token(get)
    for data, headers in (
        ({}, {}),
        ({"token": ""}, {}),
        ({"token": mine[:-3] + "abc"}, {}),
        ({"token": token(get, FORM.replace("/1/", "/3/"))}, {}),  # given for something else
        ({"token": mine}, {"Sec-Fetch-Site": "cross-site"}),
    ):
        answer = get(FORM, "admin", cookie=True, method="POST", data=data, headers=headers)
        assert answer.status_code == 403, data
    assert get(f"{FORM}?token={quote(mine)}", "admin").status_code == 200  # looking changes nothing
    assert champion(flowers) == 2


def test_rolling_back_puts_the_version_in_charge_and_scoring_follows(
    airflow: AirflowServer, get: Get, flowers: Settings
) -> None:
    airflow.unpause("flowers_score")
    form = {"token": token(get)}
    answer = get(FORM, "admin", cookie=True, method="POST", data=form)
    assert answer.status_code == 303, answer.text
    assert answer.headers["Location"] == "/tidemark/streams/flowers/models?back=1&scoring=true"
    assert champion(flowers) == 1
    shown = get("/streams/flowers/models?back=1&scoring=true", "viewer").text
    assert "Version 1 is in charge again" in shown
    assert "Version 1 is in charge</h1>" in shown
    with connect(flowers) as catalog:
        newest = catalog.promotions("flowers")[-1]
    assert (newest["kind"], newest["reason"]) == ("rollback", "rolled back from version 2 by admin")
    until(lambda: bool(airflow.runs("flowers_score")), 180)
    assert {run["run_type"] for run in airflow.runs("flowers_score")} == {"asset_triggered"}
    # Sent again, as by a reload, it says what is the matter and changes nothing.
    again = get(FORM, "admin", cookie=True, method="POST", data=form)
    assert again.status_code == 409
    assert "version 1 of stream flowers is in charge already" in again.text
    assert champion(flowers) == 1


def test_what_cannot_take_charge_is_refused_before_anybody_is_asked(get: Get, flowers: Settings) -> None:
    in_charge = get(f"/streams/flowers/models/{champion(flowers)}/rollback", "admin")
    assert in_charge.status_code == 409
    assert "is in charge already" in in_charge.text
    store, key = ObjectStore.from_settings(flowers), keys.reference("flowers", 3)
    assert get("/streams/flowers/models/3/rollback", "admin").status_code == 200  # never in charge, but whole
    store.delete_artifact(key)
    try:
        incomplete = get("/streams/flowers/models/3/rollback", "admin")
    finally:
        store.put_artifact(key, reference(3).to_bytes())
    assert incomplete.status_code == 409
    assert "version 3 of stream flowers has no reference" in incomplete.text
    assert "<form" not in incomplete.text


def test_pictures_are_encoded_anew(get: Get, flowers: Settings) -> None:
    answer = drawn(get, f"/streams/flowers/quarantined?key={quote(EVIL_KEY, safe='')}")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert HIDDEN not in answer.content
    with Picture.open(io.BytesIO(answer.content)) as shown:
        assert shown.format == "JPEG"
        assert max(shown.size) == 144


@pytest.mark.parametrize(
    "path",
    [
        "/streams/flowers/quarantined?key=..%2F..%2Fetc%2Fpasswd",
        "/streams/flowers/quarantined?key=live%2F0%2F0.png",  # another stream's
        "/streams/flowers/quarantined?key=%00",
        "/streams/live/quarantined?key=live%2F0%2Fbroken.png",  # no picture
        "/streams/live/quarantined?key=live%2F0%2F0.png",  # not in quarantine
        "/streams/flowers/pictures/1",  # another stream's
    ],
)
def test_what_is_no_picture_of_the_stream_is_a_sign(get: Get, flowers: Settings, checked: str, path: str) -> None:
    answer = drawn(get, path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/svg+xml"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert len(answer.content) < 200


def test_accepted_images_have_pictures_for_readers_only(get: Get, checked: str, live_settings: Settings) -> None:
    with connect(live_settings) as catalog:
        image = catalog.labelled_images("live")[0]
    path = f"/streams/live/pictures/{image.id}"
    assert drawn(get, path).headers["Content-Type"] == "image/jpeg"
    assert get(path, "guest").status_code == 403
    assert get(path, headers={"Accept": "image/*"}).status_code == 401


def test_the_queue_is_a_table_for_whoever_may_label(get: Get, flowers: Settings) -> None:
    answer = get("/streams/flowers/queue.csv", "admin")
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"].startswith("attachment")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert TRAVERSAL in {row["key"] for row in rows}
    assert {row["label"] for row in rows} == {""}


def unlabelled(get: Get, settings: Settings) -> Image:
    """An image of the queue that no other test needs."""
    shown = [int(found) for found in re.findall(r'name="image" value="(\d+)"', get(QUEUE, "admin").text)]
    with connect(settings) as catalog:
        return next(image for image in catalog.images("flowers", shown) if image.key != TRAVERSAL)


def test_only_editors_label_and_only_by_a_form_of_ours(get: Get, flowers: Settings) -> None:
    image = unlabelled(get, flowers)
    given = {"image": [image.id], "label": ["rose"]}
    for path in (QUEUE, f"/streams/flowers/key?key={quote(image.key)}"):
        assert 'name="label"' in get(path, "admin").text
        assert 'name="label"' not in get(path, "viewer").text
    mine = token(get, QUEUE)
    for user in ("viewer", "guest"):
        assert get(LABELS, user, method="POST", data={**given, "token": mine}).status_code == 403
    assert get(LABELS, method="POST", data={**given, "token": mine}).status_code == 303  # to the login page
    assert get(LABELS, method="POST", data={**given, "token": mine}, headers={"Accept": "*/*"}).status_code == 401
    other = token(get, FORM.replace("/1/", "/3/"))
    for wrong, headers in (("", {}), (mine[:-3] + "abc", {}), (other, {}), (mine, {"Sec-Fetch-Site": "same-site"})):
        data = {**given, "token": wrong}
        assert get(LABELS, "admin", cookie=True, method="POST", data=data, headers=headers).status_code == 403
    assert get(LABELS, "admin").status_code == 404  # looking is no way to change anything
    assert get(LABELS, "admin", method="POST", data={"token": mine, "label": "x" * 300_000}).status_code == 413
    with connect(flowers) as catalog:
        assert catalog.images("flowers", [image.id])[0].label is None


def test_labels_given_on_a_page_count_with_the_name_of_who_gave_them(get: Get, flowers: Settings) -> None:
    image = unlabelled(get, flowers)
    form = {"token": token(get, QUEUE), "image": [image.id, image.id + 1], "label": [EVIL, " "]}
    answer = get(LABELS, "admin", cookie=True, method="POST", data=form)
    assert answer.status_code == 303, answer.text
    assert answer.headers["Location"] == "/tidemark/streams/flowers/queue?labelled=1"
    with connect(flowers) as catalog:
        (event,) = catalog.label_history("flowers", image.key) or []
        assert catalog.images("flowers", [image.id])[0].label == EVIL
    assert (event["label"], event["author"], event["source"]) == (EVIL, "admin", "import")
    shown = get(f"/streams/flowers/key?key={quote(image.key)}&labelled=1", "viewer").text
    assert "One image has its label." in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;</bdi></b> by <bdi>admin</bdi>" in shown
    # Sent again it changes nothing; a form of its own corrects it, and leads back to where it was opened.
    assert "labelled=0" in get(LABELS, "admin", cookie=True, method="POST", data=form).headers["Location"]
    key_page = f"/streams/flowers/key?key={quote(image.key, safe='')}"
    form = {"token": token(get, key_page), "image": image.id, "label": "rose", "key": image.key}
    answer = get(LABELS, "admin", cookie=True, method="POST", data=form)
    assert answer.headers["Location"] == f"/tidemark{key_page}&labelled=1"
    with connect(flowers) as catalog:
        assert catalog.images("flowers", [image.id])[0].label == "rose"


def test_a_label_that_cannot_be_taken_is_named_and_the_others_count(
    get: Get, flowers: Settings, checked: str, live_settings: Settings
) -> None:
    image = unlabelled(get, flowers)
    with connect(live_settings) as catalog:
        strange = catalog.labelled_images("live")[0].id  # another stream's
    form = {"token": token(get, QUEUE), "image": [strange, image.id], "label": ["rose", "tulip\x07"]}
    answer = get(LABELS, "admin", cookie=True, method="POST", data=form)
    assert answer.status_code == 409
    assert "not in the store any more" in answer.text
    with connect(live_settings) as catalog:
        assert catalog.images("live", [strange])[0].label != "rose"


def test_enough_labels_let_the_alarm_that_waits_be_answered(
    airflow: AirflowServer, get: Get, flowers: Settings
) -> None:
    image = unlabelled(get, flowers)
    with connect(flowers) as catalog:
        check = catalog.checks("flowers", limit=1)[0].id
        catalog.note_waiting("flowers", reason="test", check_id=check, new_since=0)
    try:
        form = {"token": token(get, QUEUE), "image": image.id, "label": "rose"}
        assert get(LABELS, "admin", cookie=True, method="POST", data=form).status_code == 303
    finally:
        with psycopg2.connect(flowers.require_database()) as connection, connection.cursor() as cursor:
            cursor.execute("delete from tidemark.retraining where status = 'waiting for labels'")
        connection.close()
    events = airflow.call("GET", "/assets/events", params={"order_by": "-timestamp", "limit": 5})["asset_events"]
    assert ("x-tidemark://flowers/alarm", check) in {(each["uri"], each["extra"].get("check")) for each in events}


def test_machines_read_figures_with_the_token_only(airflow: AirflowServer, get: Get, flowers: Settings) -> None:
    address = f"{airflow.address}/tidemark/metrics"
    for wrong in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Basic {METRICS_TOKEN}"}):
        answer = requests.get(address, headers=wrong, timeout=60)
        assert answer.status_code == 401
        assert "flowers" not in answer.text
    assert get("/metrics", "admin").status_code == 401
    answer = requests.get(address, headers={"Authorization": f"Bearer {METRICS_TOKEN}"}, timeout=60)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}  # strict

    def value(name: str) -> float:
        return next(float(one.value) for one in families[name].samples if one.labels["stream"] == "flowers")

    assert value("tidemark_images") == 120
    assert abs(value("tidemark_last_check_timestamp_seconds") - time.time()) < 86_400
    assert families["tidemark_last_check_decision"].type == "stateset"
    assert EVIL not in answer.text
    paused = {one.labels["stage"] for one in families["tidemark_dag_paused"].samples if one.labels["stream"] == "live"}
    assert paused == {"ingest", "detect_drift", "retrain", "score"}
