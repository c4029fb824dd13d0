"""A catalogue that knows what the listing server lists: real rows, as many as wanted."""

from __future__ import annotations

import io
from itertools import islice

import psycopg2

from pipeline.settings import Settings
from tests.benchmarks.listing_server import listed_object

ROWS_A_COPY = 50_000


def load_known_keys(settings: Settings, stream: str, keys: int, prefix: str) -> None:
    """Write a closed batch of that many objects, each with an image of its own."""
    with psycopg2.connect(settings.require_database()) as connection, connection.cursor() as cursor:
        cursor.execute(
            "insert into tidemark.batch (stream, status, accepted, closed_at) values (%s, 'closed', %s, now())"
            " returning id",
            (stream, keys),
        )
        row = cursor.fetchone()
        assert row is not None
        cursor.execute(
            "create temporary table known (key text, etag text, bytes bigint, last_modified timestamptz, sha256 text)"
        )
        rows = (
            f"{item.key}\t{item.etag}\t{item.bytes}\t{item.last_modified.isoformat()}\n"
            for item in (listed_object(index, prefix) for index in range(keys))
        )
        while block := "".join(islice(rows, ROWS_A_COPY)):
            cursor.copy_expert("copy known (key, etag, bytes, last_modified) from stdin", io.StringIO(block))
        cursor.execute("update known set sha256 = encode(sha256(convert_to(key, 'UTF8')), 'hex')")
        cursor.execute(
            "insert into tidemark.image (stream, sha256, batch_id, split, width, height, bytes, format, brightness,"
            " contrast, sharpness, colourfulness, entropy, phash)"
            " select %s, sha256, %s, 'training', 500, 375, bytes, 'JPEG', 0.5, 0.2, 0.01, 20, 7,"
            " ('x' || left(sha256, 16))::bit(64) from known",
            (stream, row[0]),
        )
        cursor.execute(
            "insert into tidemark.object (stream, key, etag, bytes, last_modified, status, sha256, image_id, batch_id)"
            " select i.stream, k.key, k.etag, k.bytes, k.last_modified, 'accepted', k.sha256, i.id, i.batch_id"
            " from known k join tidemark.image i using (sha256)"
        )
        # A check has decided on the batch, as on any batch of the past.
        cursor.execute(
            "insert into tidemark.drift_check (id, stream, batch_ids, images, decision, reasons, report_key)"
            " values ('known', %s, %s, %s, 'clean', '[]', '')",
            (stream, [row[0]], keys),
        )
    connection.close()
    vacuum = psycopg2.connect(settings.require_database())
    vacuum.autocommit = True
    with vacuum.cursor() as cursor:
        cursor.execute("vacuum analyze tidemark.image")
        cursor.execute("vacuum analyze tidemark.object")
    vacuum.close()
