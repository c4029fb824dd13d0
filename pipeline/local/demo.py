"""The demo: three nights of a real stream, run by Airflow on the embedded stack or on the servers of the environment.

One night after the other its images are uploaded, and ``digits_ingest`` is triggered over Airflow's REST API. All that
follows happens by assets.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.errors import StoryFailed
from pipeline.local import demo_images, stack
from pipeline.local.airflow_api import AirflowClient
from pipeline.local.demo_measures import Accuracy, Evening, Night, conditions, last_check, measure, older_holdout
from pipeline.local.demo_reset import start_afresh
from pipeline.local.demo_watch import Teller, Watch
from pipeline.settings import Settings
from pipeline.stages.push import push
from pipeline.stages.workplace import Workplace, workplace
from pipeline.stream import load_stream

STREAM = "digits"

WHAT_HAPPENS = {
    1: "a scanner delivers its first images; there is no model yet",
    2: "more scans of the same kind",
    3: "the scanner has been changed: white on black, blurred, noisy, askew",
}


def run_demo(settings: Settings, *, embedded: bool = True) -> dict[str, Any]:
    """Play the three nights and tell them on stderr; the result says it all again, for machines.

    They are played on the embedded stack, which is started, or else where the settings point.

    Raises:
        StoryFailed: A promise of the story was not kept; each one has been told.
        ConfigurationError: There is no stream file, or other people's images lie under its prefix.
        StackError: The embedded stack does not start.
    """
    load_stream(settings.streams, STREAM)  # before minutes are spent on the stack
    # Where it is not a terminal that says how wide it is, the table must not be squeezed into 80 columns.
    teller = Teller(Console(file=sys.stderr, width=None if sys.stderr.isatty() else 120))
    begun = time.monotonic()
    login: stack.Login | None = None
    here = settings
    if embedded:
        teller.say("starting the embedded stack")
        login = stack.up(settings, progress=lambda line: teller.say(f"  {line}")).login
        here = stack.embedded_settings(settings.home)
    with workplace(here, STREAM) as place, AirflowClient.of(here) as airflow:
        watch = Watch(airflow, STREAM, teller)
        watch.await_dags()
        start_afresh(place, watch, teller)
        nights = [_play(place, night, watch, teller) for night in demo_images.NIGHTS]
        promises = conditions(nights, older_holdout(place, nights))
    _tell(teller.console, nights, login, here)
    broken = [promise for promise, kept in promises if not kept]
    for promise in broken:
        teller.console.print(f"[red]✗[/red] {promise}", highlight=False, soft_wrap=True)
    if broken:
        raise StoryFailed(f"{len(broken)} of the story's {len(promises)} promises were not kept (listed above)")
    teller.say(f"all {len(promises)} promises of the story were kept")
    return {
        "stage": "demo",
        "stream": STREAM,
        "seconds": round(time.monotonic() - begun, 1),
        "nights": [night.to_dict() for night in nights],
        "promises": [promise for promise, _ in promises],
        "airflow": here.airflow_url,
        "mlflow": here.mlflow_tracking_uri,
    }


def _play(place: Workplace, night: int, watch: Watch, teller: Teller) -> Night:
    """One night: upload, trigger, and wait for what follows."""
    teller.say(f"night {night}: {WHAT_HAPPENS[night]}")
    evening = Evening.of(place)
    begun = time.monotonic()
    folder = place.settings.home / "demo" / demo_images.folder_of(night)
    _write(night, folder)
    pushed = push(place.settings, STREAM, folder, demo_images.folder_of(night))
    teller.say(f"  {pushed['uploaded']} images uploaded to {place.store.image_bucket}/{pushed['prefix']}")
    ingest = watch.ingest()
    watch.next("detect_drift", since=ingest)
    batches = tuple(batch.id for batch in place.catalog.batches(STREAM) if batch.id > evening.last_batch)
    if last_check(place, batches, night).decision == "alarm":
        watch.next("retrain", since=ingest)
    watch.next("score", since=ingest)
    watch.await_quiet()
    return measure(place, night, evening, time.monotonic() - begun)


def _write(night: int, folder: Path) -> None:
    """Write a night's images afresh: nothing else may lie in the folder that is uploaded."""
    shutil.rmtree(folder, ignore_errors=True)
    demo_images.write_night(night, folder)


def _tell(console: Console, nights: Sequence[Night], login: stack.Login | None, here: Settings) -> None:
    """The table, and where to look further."""
    table = Table(title="Three nights of the stream digits")
    for name in ("night", "images", "p-value", "decision", "champion", "accuracy before", "after", "predictions"):
        table.add_column(name, justify="left" if name in {"decision", "champion"} else "right")
    for night in nights:
        table.add_row(
            str(night.night),
            str(night.images),
            "–" if night.p_value is None else f"{night.p_value:.4f}",
            night.decision,
            f"{night.champion_before or 'none'} → {night.champion or 'none'}",
            _shown(night.before),
            _shown(night.after),
            f"{night.predictions} + {night.predictions_by_champion - night.predictions}",
        )
    console.print()
    console.print(table)
    console.print(
        "Accuracy of the champion of the evening and of the morning on all images of the night,", highlight=False
    )
    console.print(
        "in brackets on its holdout, which no training sees. Predictions: new ones + those kept.\n", highlight=False
    )
    if login:
        console.print(f"Airflow   {login.url}   user {login.user}   password {login.password}",
                      highlight=False, markup=False, soft_wrap=True)  # fmt: skip
    console.print(f"MLflow    {here.mlflow_tracking_uri}", highlight=False, markup=False, soft_wrap=True)
    for night in nights:
        console.print(f"Report {night.night}  {night.report}", highlight=False, markup=False, soft_wrap=True)
    console.print()


def _shown(accuracy: Accuracy | None) -> str:
    return "–" if accuracy is None else f"{accuracy.all:.3f} ({accuracy.holdout:.3f})"
