"""Time and memory of the drift tests, ours and alibi-detect's side by side, each run in a process of its own.

    python -m tests.benchmarks.bench_drift                 # the sizes that alibi-detect can do in a minute
    python -m tests.benchmarks.bench_drift --large         # ours at 10,000 and 50,000 rows a sample as well

Prints a Markdown table. Memory is the peak of the process above what it held before the test.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

DIMENSIONS = 512
CONTENDERS = ("tidemark mmd", "tidemark ensemble", "alibi-detect mmd")


def features(rows: int, seed: int) -> np.ndarray:
    """Embeddings as a ReLU network makes them: (rows, 512) float32."""
    rng = np.random.Generator(np.random.PCG64(seed))
    mixing = np.random.Generator(np.random.PCG64(0)).normal(size=(64, DIMENSIONS)).astype(np.float32)
    return np.maximum(rng.normal(size=(rows, 64)).astype(np.float32) @ mixing, 0)


def measure(contender: str, rows: int, permutations: int) -> dict[str, float]:
    """Run one test in this process: seconds, MiB above the start, p-value."""
    reference, current = features(rows, 1), features(rows, 2)
    warm = features(50, 3), features(50, 4)  # imports and first calls are not what is measured
    if contender.startswith("tidemark"):
        import drift

        name = contender.split()[1]
        drift.detect(*warm, test=name, permutations=99)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        p_value = drift.detect(reference, current, test=name, permutations=permutations).p_value
    else:
        from alibi_detect.cd import MMDDrift

        MMDDrift(warm[0], backend="pytorch", n_permutations=9, device="cpu").predict(warm[1])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        detector = MMDDrift(reference, backend="pytorch", n_permutations=permutations, device="cpu")
        p_value = float(detector.predict(current)["data"]["p_val"])
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": seconds, "mebibytes": peak / 1024, "p_value": p_value}


def in_child(contender: str, rows: int, permutations: int) -> dict[str, float]:
    """The same in a fresh process."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.bench_drift", "--one", contender]
    done = subprocess.run(
        [*command, str(rows), str(permutations)],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    if done.returncode:
        raise SystemExit(f"{contender} with {rows} rows failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[500, 1000, 2000], help="rows of each sample")
    parser.add_argument("--permutations", type=int, default=99, help="for all contenders at these sizes")
    parser.add_argument("--large", action="store_true", help="ours at 10,000 and 50,000 rows with 999 permutations")
    parser.add_argument("--one", nargs=3, metavar=("CONTENDER", "ROWS", "PERMUTATIONS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]), int(options.one[2]))))
        return
    runs = [(name, rows, options.permutations) for rows in options.rows for name in CONTENDERS]
    if options.large:
        runs += [(name, rows, 999) for rows in (10_000, 50_000) for name in CONTENDERS[:2]]
    print(f"{os.cpu_count()} processors, {DIMENSIONS} dimensions, equally many rows in both samples\n")
    print("| rows | permutations | test | seconds | MiB |\n|---:|---:|---|---:|---:|")
    for name, rows, permutations in runs:
        found = in_child(name, rows, permutations)
        print(f"| {rows:,} | {permutations} | {name} | {found['seconds']:.2f} | {found['mebibytes']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
