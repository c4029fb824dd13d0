"""What people look at of an evaluation: tables, confusion matrices, galleries of errors, the model card."""

from __future__ import annotations

import base64
import csv
import html
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.labels.queue_file import neutral
from pipeline.model.confusion import confusion_png
from pipeline.model.evaluate import Evaluation
from pipeline.model.gate import Evaluations, GateDecision
from pipeline.model.mistakes import Mistake
from pipeline.naming import printable
from pipeline.stages.judging import Judged
from pipeline.stages.thumbnails import Picture, thumbnails
from pipeline.stages.workplace import Workplace

log = logging.getLogger(__name__)

SETS = ("new", "old")
STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2em}main{display:flex;flex-wrap:wrap;gap:1em}"
    "figure{margin:0;width:150px}img{width:144px;display:block}"
    "figcaption{font-size:12px;overflow-wrap:anywhere}"
)


def metrics_of(evaluations: Mapping[str, Evaluations]) -> dict[str, float]:
    """Single numbers for MLflow: ``challenger_new_accuracy``, ``champion_latency_ms``, …"""
    metrics: dict[str, float] = {}
    for who, part, evaluation in _sets(evaluations):
        metrics |= {f"{who}_{part}_{name}": value for name, value in evaluation.figures().items()}
    for who, parts in evaluations.items():
        if parts.footprint is not None:
            metrics |= {
                f"{who}_latency_ms": parts.footprint.latency_ms,
                f"{who}_batch_latency_ms": parts.footprint.batch_ms,
                f"{who}_size_mb": parts.footprint.megabytes,
            }
    return metrics


def write_evaluation_files(
    place: Workplace, judged: Judged, gate: GateDecision, classes: Sequence[str], folder: Path
) -> None:
    """Write everything but the card into an empty folder.

    Raises:
        StoreError: The images of the galleries cannot be fetched since the store does not serve.
    """
    _write_table(folder / "classes.csv", _class_rows(judged.evaluations))
    _write_table(folder / "slices.csv", _slice_rows(judged))
    for who, part, evaluation in _sets(judged.evaluations):
        name = f"confusion-{who}-{part}"
        table = zip(classes, evaluation.confusion, strict=True)
        _write_table(
            folder / f"{name}.csv", [["true \\ answered", *classes], *([label, *counts] for label, counts in table)]
        )
        title = f"{who}, {'new' if part == 'new' else 'older'} holdout: {evaluation.count} images"
        (folder / f"{name}.png").write_bytes(confusion_png(evaluation.confusion, classes, title))
    pictures = thumbnails(place, [item.image_id for found in judged.mistakes.values() for item in found])
    for who, found in judged.mistakes.items():
        _write_table(folder / f"errors-{who}.csv", _mistake_rows(place, found))
        page = _gallery(f"Most confident errors of the {who} of {place.stream.name}", found, pictures)
        (folder / f"errors-{who}.html").write_text(page, encoding="utf-8")
    whole: dict[str, Any] = {who: item.to_dict() for who, item in judged.evaluations.items()}
    (folder / "evaluation.json").write_text(json.dumps(whole | {"gate": gate.to_dict()}, indent=1), encoding="utf-8")


def _sets(evaluations: Mapping[str, Evaluations]) -> Iterator[tuple[str, str, Evaluation]]:
    for who, parts in evaluations.items():
        for part in SETS:
            evaluation: Evaluation | None = getattr(parts, part)
            if evaluation is not None:
                yield who, part, evaluation


def _class_rows(evaluations: Mapping[str, Evaluations]) -> Iterator[Sequence[Any]]:
    yield "model", "holdout", "class", "images", "precision", "recall", "f1", "roc_auc"
    for who, part, evaluation in _sets(evaluations):
        for item in evaluation.classes:
            figures = (item.precision, item.recall, item.f1, item.roc_auc)
            yield who, part, item.name, item.support, *(_number(figure) for figure in figures)


def _slice_rows(judged: Judged) -> Iterator[Sequence[Any]]:
    yield "part", "model", "images", "accuracy", "balanced_accuracy", "macro_f1", "calibration_error"
    for name, found in judged.parts.items():
        for who, item in found.items():
            figures = (item.accuracy, item.balanced_accuracy, item.macro_f1, item.calibration_error)
            yield name, who, item.count, *(_number(figure) for figure in figures)


def _mistake_rows(place: Workplace, mistakes: Sequence[Mistake]) -> Iterator[Sequence[Any]]:
    images = place.catalog.images(place.stream.name, sorted({item.image_id for item in mistakes}))
    keys = {image.id: image.key for image in images}
    yield "key", "image", "true", "answered", "confidence", "confidence_in_true"
    for item in mistakes:
        key = keys.get(item.image_id, "")
        yield key, item.image_id, item.label, item.answer, _number(item.confidence), _number(item.truth)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _write_table(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """For spreadsheets: keys and class names come from outside, and none of them becomes a formula."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file)
        for row in rows:
            table.writerow([neutral(cell) if isinstance(cell, str) else cell for cell in row])


def _gallery(title: str, mistakes: Sequence[Mistake], pictures: Mapping[int, Picture]) -> str:
    """One self-contained page; what has no picture any more is left out."""
    figures = []
    for item in mistakes:
        picture = pictures.get(item.image_id)
        if picture is not None:
            data = base64.b64encode(picture.content).decode("ascii")
            said = f"{printable(item.label)} taken for {printable(item.answer)}, {item.confidence:.3f}"
            figures.append(
                f'<figure title="{html.escape(printable(picture.key))}">'
                f'<img alt="" src="data:image/jpeg;base64,{data}">'
                f"<figcaption>{html.escape(said)}</figcaption></figure>"
            )
    body = f"<main>{''.join(figures)}</main>" if figures else "<p>There are none.</p>"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1>{body}</body></html>\n"
    )
