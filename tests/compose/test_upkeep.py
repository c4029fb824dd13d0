"""Upgrading over a migration, the refusal of an older version, and the way back: a backup into an empty stack."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.compose.stack import ROOT, STREAM, Stack

MIGRATION = "9999_from_a_later_version.sql"


def test_upgrade_refusal_and_restore(stack: Stack, tmp_path: Path) -> None:
    stack.compose("up", "-d", "--scale", "worker=1")
    stack.await_quiet()
    images, predictions, champion = stack.images, stack.predictions(), stack.champion
    assert images == predictions > 0
    backup = tmp_path / "backup"
    stack.script("save", backup)

    older = stack.env.get("TIDEMARK_IMAGE", "tidemark:latest")
    later = build_later(tmp_path / "later", older)
    stack.environment["TIDEMARK_IMAGE"] = later
    stack.compose("up", "-d", "--scale", "worker=1")
    assert stack.query("select max(number) from tidemark.schema_migration") == "9999"
    assert stack.await_end(stack.start("score")).state == "success"
    assert (stack.images, stack.predictions(), stack.champion) == (images, predictions, champion)

    stack.environment["TIDEMARK_IMAGE"] = older
    refused = stack.compose("run", "--rm", "-T", "cli", "status", STREAM, check=False)
    assert "was migrated by a newer version of Tidemark" in refused

    in_use = stack.script("load", backup, check=False)
    assert "is in use" in in_use
    stack.compose("down", "-v")
    stack.script("load", backup)
    assert stack.query("select max(number) from tidemark.schema_migration") != "9999"
    assert (stack.images, stack.predictions(), stack.champion) == (images, predictions, champion)
    # The model file itself came back too: a fresh scoring of nothing still proves that no image is missing.
    stack.airflow_is_up()
    assert stack.await_end(stack.start("score")).state == "success"
    stack.cli("models", STREAM, "--json")


def build_later(folder: Path, older: str) -> str:
    """An image that differs from another by one more migration."""
    folder.mkdir()
    (folder / MIGRATION).write_text("create table tidemark.from_a_later_version (id integer primary key);\n")
    (folder / "Dockerfile").write_text(
        f"FROM {older}\nCOPY {MIGRATION} /opt/tidemark/pipeline/storage/sql/migrations/\n"
    )
    subprocess.run(["docker", "build", "-q", "-t", "tidemark:later", str(folder)], check=True, cwd=ROOT)
    return "tidemark:later"
