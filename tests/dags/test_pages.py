"""Tidemark's pages in a running Airflow: who sees what, and that nothing hostile gets through."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import requests

from pipeline.records import Check
from pipeline.settings import Settings
from pipeline.storage import keys
from pipeline.storage.catalog import connect
from pipeline.storage.objects import ObjectStore
from tests.dags.airflow_server import AirflowServer
from tests.dags.conftest import Get

pytestmark = pytest.mark.stack

ROUTES = [
    "/",
    "/checks/live/b1-v0",
    "/checks/live/b1-v0/report.html",
    "/checks/live/b1-v0/properties.html",
    "/checks/live/no-such-check",
    "/streams/live",
    "/streams/live?verdict=alarm",
    "/streams/elsewhere",
    "/runs/live_detect_drift/manual__1",
    "/static/style.css",
    "/streams/live/models",
    "/streams/live/models/1",
    "/streams/live/models/1/rollback",
    "/streams/live/images",
    "/streams/live/queue",
    "/streams/live/queue.csv",
    "/streams/live/labels",
    "/streams/live/key?key=live/0/0.png",
    "/streams/live/pictures/1",
    "/streams/live/quarantined?key=live/0/broken.png",
    "/anything",
    "/docs",
    "/openapi.json",
]
HOSTILE = [
    "/checks/live/..%2F..%2Fetc%2Fpasswd",
    "/checks/..%2F..%2Fetc/passwd",
    "/checks/live/%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    "/checks/%22%3E%3Cscript%3E/b1-v0",
    "/checks/live/b1-v0%00",
    "/checks/live/b1-v0'%20OR%20'1'='1",
    "/checks/live/" + "b" * 5000,
    "/checks/live/b1-v0/..%2Freport.html",
    "/checks/live/b1-v0/%22%3E%3Cscript%3E",
    "/streams/..%2F..%2Fetc%2Fpasswd",
    "/streams/%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    "/streams/live?verdict=%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
    "/streams/live?since=%22%3E%3Cscript%3E",
    "/streams/live?until=9999-12-31",
    "/streams/live/images?reason=x%00",
    "/runs/live_detect_drift/x%00",
    "/streams/live?page=0",
    "/streams/live?page=99999999999999999999999",
    "/static/..%2F..%2Fviews.py",
    "/streams/live/models/%22%3E%3Cscript%3E",
    "/streams/live/models/99999999999999999999",
    "/streams/live/models/7/rollback",
    "/streams/live/pictures/..%2F..%2Fetc%2Fpasswd",
    "/streams/..%2Flive/key?key=x",
]


@pytest.fixture(scope="package")
def check_path(airflow: AirflowServer, checked: str) -> str:
    links = airflow.call("GET", f"/dags/live_detect_drift/dagRuns/{checked}/taskInstances/check/links")
    return str(links["extra_links"]["Drift report"].removeprefix("/tidemark"))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_programs_without_a_login_get_401(airflow: AirflowServer, checked: str, route: str, method: str) -> None:
    answer = requests.request(method, f"{airflow.address}/tidemark{route}", allow_redirects=False, timeout=60)
    assert answer.status_code in ((401,) if method == "GET" else (401, 405))
    assert "live" not in answer.text


@pytest.mark.parametrize("route", [*ROUTES, *HOSTILE])
def test_browsers_without_a_login_are_sent_to_it(get: Get, route: str) -> None:
    answer = get(route)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/auth/login?next=%2Ftidemark%2F")
    assert answer.text == ""


def test_after_the_login_it_goes_on_where_it_was(get: Get, airflow: AirflowServer) -> None:
    def back(path: str, **arguments: Any) -> str:
        (found,) = parse_qs(urlsplit(get(path, **arguments).headers["Location"]).query)["next"]
        return found

    assert back("/streams/live?verdict=alarm&page=2") == "/tidemark/streams/live?verdict=alarm&page=2"
    form = {"method": "POST", "data": {"token": "x"}}
    here = f"{airflow.address}/tidemark/streams/live/queue?labelled=1"
    assert back("/streams/live/labels", headers={"Referer": here}, **form) == "/tidemark/streams/live/queue?labelled=1"
    for strange in (
        "https://evil.example/tidemark/x",
        f"{airflow.address}/elsewhere",
        "//evil.example",
        "http://[",
        "",
    ):
        assert back("/streams/live/labels", headers={"Referer": strange}, **form) == "/tidemark/"


def test_nothing_that_a_stranger_sends_is_read(airflow: AirflowServer, get: Get) -> None:
    address = f"{airflow.address}/tidemark/streams/live/labels"
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    for body, headers in ((b"no such thing", broken), (b"x" * 300_000, {}), (iter([b"x"]), {})):
        answer = requests.post(address, data=body, headers=headers, allow_redirects=False, timeout=60)
        assert answer.status_code == 401
        assert answer.headers["Content-Security-Policy"]
    assert get("/streams/live/labels", "admin", method="POST", data=b"x", headers=broken).status_code == 400
    assert get("/streams/live/labels", "admin", method="POST", data=iter([b"x"])).status_code == 413


@pytest.mark.parametrize("token", ["nonsense", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiIsInJvbGUiOiJhZG1pbiJ9."])
def test_forged_tokens_are_refused(airflow: AirflowServer, checked: str, token: str) -> None:
    for answer in (
        requests.get(f"{airflow.address}/tidemark/", headers={"Authorization": f"Bearer {token}"}, timeout=60),
        requests.get(f"{airflow.address}/tidemark/", cookies={"_token": token}, timeout=60),
    ):
        assert answer.status_code in (401, 403)
        assert "b1-v0" not in answer.text


@pytest.mark.parametrize("cookie", [False, True])
@pytest.mark.parametrize("user", ["admin", "viewer"])
def test_readers_see_the_report_as_it_lies_in_the_store(
    get: Get, live_settings: Settings, check_path: str, user: str, cookie: bool
) -> None:
    answer = get(check_path, user, cookie=cookie)
    assert answer.status_code == 200
    assert f'src="/tidemark{check_path}/report.html"' in answer.text
    check = check_path.rpartition("/")[2]
    store = ObjectStore.from_settings(live_settings)
    for kind, media in (("html", "text/html"), ("json", "application/json")):
        answer = get(f"{check_path}/report.{kind}", user, cookie=cookie)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith(media)
        assert answer.content == store.get_artifact(keys.report("live", check, kind))


def test_the_page_of_image_properties_is_shown_without_an_origin(
    get: Get, live_settings: Settings, check_path: str
) -> None:
    store = ObjectStore.from_settings(live_settings)
    store.put_artifact(keys.properties("live", check_path.rpartition("/")[2]), b"<!doctype html>", "text/html")
    assert get(f"{check_path}/properties.html", "guest").status_code == 403
    answer = get(f"{check_path}/properties.html", "viewer")
    assert answer.status_code == 200
    assert answer.content == b"<!doctype html>"
    policy = [part.strip() for part in answer.headers["Content-Security-Policy"].split(";")]
    assert {"sandbox allow-scripts", "default-src 'none'", "frame-ancestors 'self'"} <= set(policy)
    assert not [part for part in policy if "allow-same-origin" in part or "connect-src" in part or "http" in part]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_readers_see_how_the_stream_stands_and_its_history(get: Get, check_path: str) -> None:
    answer = get("/", "viewer")
    assert answer.status_code == 200
    assert "There is no model yet" in answer.text
    assert 'href="/tidemark/streams/live"' in answer.text
    assert re.search(r"<dt>Images</dt><dd>8</dd>", answer.text)
    assert re.search(r"<dt>Quarantine</dt><dd>1</dd>", answer.text)
    assert "by hand only" in answer.text
    answer = get("/streams/live", "viewer")
    assert answer.status_code == 200
    assert f'href="/tidemark{check_path}"' in answer.text
    assert "alarm" in answer.text


def test_a_history_is_cut_by_verdict_and_time(get: Get, check_path: str) -> None:
    said = "No check is like that."
    for query, found in [("verdict=alarm", True), ("verdict=clean", False), ("until=2020-01-01", False)]:
        answer = get(f"/streams/live?{query}", "viewer")
        assert answer.status_code == 200
        assert (f'href="/tidemark{check_path}"' in answer.text, said in answer.text) == (found, not found)
    assert get("/streams/live?page=7", "viewer").status_code == 200


def test_a_run_leads_to_its_check(get: Get, check_path: str, checked: str, airflow: AirflowServer) -> None:
    answer = get(f"/runs/live_detect_drift/{quote(checked, safe='')}", "viewer")
    assert answer.status_code == 307
    assert answer.headers["Location"] == f"/tidemark{check_path}"
    ingest = min(run["dag_run_id"] for run in airflow.runs("live_ingest"))
    answer = get(f"/runs/live_ingest/{quote(ingest, safe='')}", "viewer")
    assert answer.status_code == 200
    assert "8 accepted, 1 in quarantine" in answer.text
    for foreign in ("script_fail", "elsewhere_ingest"):
        assert "none of Tidemark" in get(f"/runs/{foreign}/manual__1", "viewer").text
    assert "nothing in the catalogue" in get("/runs/live_score/%22%3E%3Cscript%3E", "viewer").text


def test_a_user_without_rights_sees_no_check(get: Get, check_path: str) -> None:
    of_streams = [route for route in ROUTES if "live" in route and route != "/streams/live/labels"]
    for path in (check_path, f"{check_path}/report.html", f"{check_path}/report.json", *of_streams):
        answer = get(path, "guest")
        assert answer.status_code == 403, path
        assert "b1-v0" not in answer.text
    answer = get("/", "guest")
    assert answer.status_code == 200
    assert "b1-v0" not in answer.text
    assert "/streams/live" not in answer.text
    assert "no streams yet" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/checks/live/no-such-check",
        "/checks/live/no-such-check/report.html",
        "/checks/live/b1-v0/other.html",
        "/checks/elsewhere/b1-v0",
        "/anything",
        *HOSTILE,
    ],
)
def test_what_does_not_exist_is_a_plain_page(get: Get, path: str) -> None:
    answer = get(path, "admin")
    assert answer.status_code == 404
    assert re.search(r"<p>There is no such|<p>Stream \w+ has no check", answer.text)
    assert "<script>" not in answer.text
    assert "root:" not in answer.text


def test_every_answer_forbids_strange_scripts_and_strangers(get: Get, check_path: str) -> None:
    for answer in (
        get("/", "admin"),
        get(check_path, "admin"),
        get(f"{check_path}/report.html", "admin"),
        get("/streams/live", "admin"),
        get("/anything", "admin"),
        get("/"),
        get("/x", "guest"),
    ):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'self'" in policy
        assert "http" not in policy
        own = [part.strip() for part in policy.split(";") if part.strip().startswith("script-src")]
        assert own in ([], ["script-src 'self'"])
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"


def test_hostile_text_in_the_catalogue_is_escaped(get: Get, live_settings: Settings, checked: str) -> None:
    evil = '"><script>alert(1)</script>'
    with connect(live_settings) as catalog:
        (check,) = [check for check in catalog.checks("live") if check.id.endswith("-v0")][:1]
        catalog.record_check(
            Check(
                **{
                    **{name: getattr(check, name) for name in Check.__slots__},
                    "id": evil,
                    "reasons": (evil,),
                    "batch_ids": (),
                    "created_at": datetime.now(UTC),
                }
            )
        )
    for path in ("/", "/streams/live"):
        answer = get(path, "admin")
        assert answer.status_code == 200
        assert "<script>" not in answer.text
        assert "&lt;script&gt;" in answer.text


def test_a_missing_report_is_404(get: Get, live_settings: Settings, checked: str) -> None:
    with connect(live_settings) as catalog:
        check = catalog.checks("live")[-1]
        catalog.record_check(
            Check(
                **{
                    **{name: getattr(check, name) for name in Check.__slots__},
                    "id": "gone-1",
                    "batch_ids": (),
                    "report_key": keys.report("live", "gone-1"),
                }
            )
        )
    answer = get("/checks/live/gone-1/report.html", "admin")
    assert answer.status_code == 404
    assert "no longer in the store" in answer.text
    with connect(live_settings) as catalog:
        catalog.note_pruned("live", "report", "gone-1")
    assert "was pruned on" in get("/checks/live/gone-1/report.html", "admin").text
    story = get("/checks/live/gone-1", "admin").text
    assert "The report was pruned on" in story
    assert "<iframe" not in story


def test_the_pages_are_in_airflows_navigation(airflow: AirflowServer) -> None:
    plugins = {plugin["name"]: plugin for plugin in airflow.call("GET", "/plugins")["plugins"]}
    views = {view["destination"]: view["href"] for view in plugins["tidemark"]["external_views"]}
    assert views == {"nav": "/tidemark/", "dag_run": "/tidemark/runs/{DAG_ID}/{RUN_ID}"}
    assert airflow.call("GET", "/plugins/importErrors")["import_errors"] == []
