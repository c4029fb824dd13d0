"""What a check's report costs: choosing images, comparing measures by Evidently, drawing the page.

    python -m tests.benchmarks.bench_report
    python -m tests.benchmarks.bench_report --reference 2000 --images 5000 --dimensions 512 2048

Embeddings, measures and thumbnails are random: none of the steps costs more for real ones. Fetching the 48 thumbnails
is the store's matter and left out. Each size runs in a process of its own; memory is the peak above what it held
before, what a step imports included.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np

CLASSES = 100


def measured(name: str, step: Callable[[], Any], rows: list[dict[str, Any]]) -> Any:
    """Run one step and note its seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = step()
    rows.append({"step": name, "seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu})
    return result


def one(reference_rows: int, rows: int, dimensions: int) -> dict[str, Any]:
    """All steps of one report."""
    from PIL import Image

    import drift
    from drift.properties import COLUMNS, property_drift
    from drift.report import CheckReport, ClassShare, Sample, most_drifted, render, to_json

    rng = np.random.Generator(np.random.PCG64(0))
    reference = rng.normal(size=(reference_rows, dimensions)).astype(np.float32)
    current = rng.normal(size=(rows, dimensions)).astype(np.float32) + np.float32(0.1)
    result = drift.detect(reference[:200], current[:200], test="mmd")
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (144, 144, 3), dtype=np.uint8)).save(file, "JPEG", quality=80)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steps: list[dict[str, Any]] = []
    measures = [{name: rng.random(count) for name in COLUMNS} for count in (reference_rows, rows)]
    measured("importing Evidently", lambda: __import__("evidently.metrics"), steps)
    properties, beside = measured("image properties", lambda: property_drift(*measures), steps)
    chosen = measured("choosing images", lambda: most_drifted(reference, current), steps)
    report = CheckReport(
        stream="bench",
        check="b2-v1",
        batches=(2,),
        when=datetime.now(UTC),
        images=rows,
        decision=drift.decide(result, rows, drift.Policy()),
        model_version=1,
        result=result,
        reference=reference,
        current=current,
        classes=tuple(ClassShare(label=f"class {k}", reference=0.01, current=k / 5000) for k in range(CLASSES)),
        samples=tuple(
            Sample(
                key=f"bench/{item.row}.jpg",
                thumbnail=file.getvalue(),
                label="class 1",
                confidence=0.5,
                nearest_thumbnail=file.getvalue(),
                row=item.row,
            )
            for item in chosen
        ),
        properties=properties,
        properties_page="properties.html",
    )
    page = measured("drawing the page", lambda: render(report), steps)
    twin = measured("its JSON twin", lambda: to_json(report), steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "steps": steps,
        "MiB": (peak - before) / 1024,
        "bytes": {"report.html": len(page.encode()), "report.json": len(twin), "properties.html": len(beside.encode())},
    }


def main() -> None:
    """Print a table a size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=int, default=2000)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.reference, arguments.images, arguments.dimensions[0])))
        return
    for dimensions in arguments.dimensions:
        command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.bench_report", "--one"]
        command += ["--reference", str(arguments.reference), "--images", str(arguments.images)]
        done = subprocess.run([*command, "--dimensions", str(dimensions)], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"\n{arguments.images:,} images against {arguments.reference:,}, {dimensions:,} dimensions\n")
        print("| step | seconds | CPU seconds |\n| --- | ---: | ---: |")
        for step in found["steps"]:
            print(f"| {step['step']} | {step['seconds']:.2f} | {step['cpu']:.2f} |")
        total = [sum(step[kind] for step in found["steps"]) for kind in ("seconds", "cpu")]
        print(f"| all | {total[0]:.2f} | {total[1]:.2f} |\n")
        sizes = ", ".join(f"{name} {size / 1000:,.0f} kB" for name, size in found["bytes"].items())
        print(f"{found['MiB']:.0f} MiB; {sizes}")


if __name__ == "__main__":
    main()
