"""A catalogue with a long history, made up in the database itself: what pages are measured and looked at with."""

from __future__ import annotations

import json
from typing import Any

import psycopg2

from pipeline.settings import Settings

CLASSES = [str(digit) for digit in range(10)]

# One batch and one check a night. Every 250th check is an alarm, the one before it is watched; each alarm trains a
# model, and two of three take charge.
ROWS = """
insert into tidemark.batch (stream, status, accepted, quarantined, started_at, closed_at, run)
select %(stream)s, 'closed', %(each)s, 1, at, at + interval '4 minutes',
       %(stream)s || '_ingest/scheduled__' || n || '/1'
from (
    select n, now() - interval '1 hour' - (%(checks)s - n) * %(every)s::interval as at
    from generate_series(1, %(checks)s) n
) night
order by n;

insert into tidemark.image (stream, sha256, batch_id, split, label, width, height, bytes, format, brightness, contrast,
                            sharpness, created_at)
select %(stream)s, md5(%(stream)s || b.id || '-' || n) || md5(n || '-' || b.id), b.id,
       case when n %% 5 = 0 then 'holdout' else 'training' end,
       case when n %% 10 < 7 then (n %% 10)::text end, 224, 224, 9000, 'JPEG', 0.5, 0.2, 100, b.closed_at
from tidemark.batch b, generate_series(1, %(each)s) n where b.stream = %(stream)s order by b.id, n;

insert into tidemark.object (stream, key, etag, bytes, last_modified, status, sha256, image_id, batch_id, seen_at)
select stream, stream || '/' || to_char(created_at, 'YYYY/MM/DD') || '/' || id || '.jpg', md5(sha256), bytes,
       created_at, 'accepted', sha256, id, batch_id, created_at
from tidemark.image where stream = %(stream)s;

insert into tidemark.object (stream, key, etag, bytes, last_modified, status, reason_code, reason, batch_id, seen_at)
select stream, stream || '/broken/' || id || '.jpg', md5(id::text), 4000, closed_at, 'quarantined',
       (array['undecodable', 'too_small', 'truncated'])[1 + id %% 3], 'made up for a measurement', id, closed_at
from tidemark.batch where stream = %(stream)s;

insert into tidemark.drift_check (id, stream, batch_ids, model_version, test, images, reference_images, statistic,
    threshold, p_value, alpha, decision, reasons, report_key, measured, run, created_at)
select %(stream)s || '-b' || id || '-v' || version, %(stream)s, array[id], version, 'ensemble', %(each)s, 400,
       threshold * ratio, threshold, p, 0.0027, decision, jsonb_build_array(
           case decision when 'clean' then 'The images look like those the model was judged on.'
           else 'The images differ from those the model was judged on.' end),
       'checks/' || %(stream)s || '/' || %(stream)s || '-b' || id || '-v' || version || '/report.html',
       jsonb_build_object('signal', decision <> 'clean', 'expected', jsonb_build_object(
           'accuracy', 0.93 - 0.06 * greatest(ratio - 0.6, 0), 'low', 0.9 - 0.06 * greatest(ratio - 0.6, 0),
           'high', 0.95 - 0.06 * greatest(ratio - 0.6, 0), 'baseline', 0.93, 'images', %(each)s)),
       %(stream)s || '_detect_drift/scheduled__' || n || '/1', closed_at + interval '3 minutes'
from (
    select id, closed_at, n, 1 + (n + 20) / %(alarms)s as version, 0.0123 as threshold,
           case when n %% %(alarms)s = %(alarms)s - 21 then 2.4 when n %% %(alarms)s = %(alarms)s - 22 then 1.3
                else 0.35 + 0.3 * sin(n * 0.37) * sin(n * 1.3) + 0.2 * ((n %% %(alarms)s)::float / %(alarms)s)
                end as ratio,
           case when n %% %(alarms)s = %(alarms)s - 21 then 0.001 when n %% %(alarms)s = %(alarms)s - 22 then 0.002
                else 0.05 + 0.9 * abs(sin(n * 2.1)) end as p,
           case when n %% %(alarms)s = %(alarms)s - 21 then 'alarm' when n %% %(alarms)s = %(alarms)s - 22 then 'watch'
                else 'clean' end as decision
    from (select *, row_number() over (order by id) as n from tidemark.batch where stream = %(stream)s) numbered
) night;

insert into tidemark.retraining (stream, reason, check_id, status, model_version, evaluation, gate, run, started_at,
                                 finished_at)
select %(stream)s, 'first model', null::text, 'promoted', 1, %(evaluation)s::jsonb, %(gate)s::jsonb, null,
       min(created_at), min(created_at) + interval '20 minutes'
from tidemark.drift_check where stream = %(stream)s
union all
select %(stream)s, 'alarm of check ' || id, id, case when model_version %% 3 = 2 then 'rejected' else 'promoted' end,
       model_version + 1, %(evaluation)s::jsonb, %(gate)s::jsonb, %(stream)s || '_retrain/asset__' || id || '/1',
       created_at + interval '1 minute', created_at + interval '25 minutes'
from tidemark.drift_check where stream = %(stream)s and decision = 'alarm'
order by 9;

insert into tidemark.promotion (stream, model_version, previous_version, kind, reason, retraining_id, intended_at,
                                done_at)
select stream, model_version, lag(model_version) over (order by id), 'promotion', reason, id, finished_at, finished_at
from tidemark.retraining where stream = %(stream)s and status = 'promoted' order by id;

insert into tidemark.champion (stream, model_version)
select stream, model_version from tidemark.promotion where stream = %(stream)s order by id desc limit 1;

insert into tidemark.prediction (image_id, model_version, stream, label, confidence, top_k)
select i.id, c.model_version, i.stream, (i.id %% 10)::text, 0.5 + (i.id %% 50) / 100.0,
       jsonb_build_array(jsonb_build_array((i.id %% 10)::text, 0.9))
from tidemark.image i join tidemark.champion c on c.stream = i.stream where i.stream = %(stream)s;

analyze;
"""


def evaluation(classes: list[str] = CLASSES, support: int = 40) -> dict[str, Any]:
    """Figures of one version on one holdout, with a confusion matrix of (classes, classes) counts."""
    count = len(classes)
    confusion = [
        [
            support - 4 if row == column else 4 if column == (row + 1) % len(classes) else 0
            for column in range(len(classes))
        ]
        for row in range(len(classes))
    ]
    share = 1 - 4 / support
    return {
        "count": support * count, "unknown": 0, "accuracy": share, "balanced_accuracy": share,
        "macro_precision": share, "macro_f1": share, "roc_auc": 0.98, "calibration_error": 0.03, "confusion": confusion,
        "classes": [
            {"name": name, "precision": share, "recall": share, "f1": share, "support": support, "roc_auc": 0.98}
            for name in classes
        ],
    }  # fmt: skip


def make_history(
    settings: Settings, stream: str, *, checks: int, images: int, every: str = "1 day", alarms: int = 250
) -> None:
    """Fill the catalogue of a stream that it does not know yet.

    Args:
        settings: Where the database is.
        stream: The stream's name.
        checks: Nights, each with one batch and one check.
        images: In all of them together.
        every: Time between two nights, as PostgreSQL writes intervals.
        alarms: One alarm in so many checks; more than 25.
    """
    figures = {"challenger": {"new": evaluation(), "old": evaluation(support=60)}, "champion": None}
    gate = {"promote": True, "reasons": ["better: accuracy 0.900 against 0.850 on the 400 images of the new holdout"]}
    values = {
        "stream": stream, "checks": checks, "each": images // checks, "every": every, "alarms": alarms,
        "evaluation": json.dumps(figures), "gate": json.dumps(gate),
    }  # fmt: skip
    with psycopg2.connect(settings.require_database()) as connection, connection.cursor() as cursor:
        cursor.execute(ROWS, values)
    connection.close()
