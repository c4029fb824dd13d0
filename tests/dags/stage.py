"""Stands for a stage where a test is about Airflow: ``stage.py MODE FOLDER --json …``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

mode, folder, *options = sys.argv[1:]


def answer(**values: object) -> None:
    print(json.dumps({"stage": mode, **values}))


def fail(sentence: str, status: int) -> None:
    answer(error=sentence, exit_status=status)
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(status)


print(f"WARNING {mode} runs for {os.environ['TIDEMARK_RUN']}", file=sys.stderr)
if mode == "notify":
    Path(folder, "told").write_text(json.dumps(options))
    fail("the mail server is away", 1)
if mode == "stay":
    near = subprocess.Popen(["sleep", "600"])
    far = subprocess.Popen(["sleep", "600"], start_new_session=True)
    partial = Path(folder, "partial")
    partial.write_text(f"{os.getpid()} {near.pid} {far.pid}")
    partial.rename(Path(folder, "pids"))
    print("INFO epoch 1 of 100", file=sys.stderr, flush=True)
    time.sleep(600)
if mode == "fail":
    fail("the store is away: start it", 1)
if mode == "wrong":
    fail("no stream is called so: correct the name", 2)
if mode == "plan":
    answer(version=7, shards=["1-5", "6-9"], up_to=9, planned_at="2026-11-20T03:00:00+00:00")
if mode == "judged":
    answer(outcome="awaiting approval", version=3, stream="live", evidence="- better: {{ not a template }}")
if mode == "decide":
    answer(options=sorted(options))
