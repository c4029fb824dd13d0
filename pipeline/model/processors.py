"""How many processors this process may really use."""

from __future__ import annotations

import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
MOST_LANES = 8


def available_processors(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Processors that the scheduler's affinity and every enclosing cgroup's CPU quota leave to this process, ≥ 1.

    A quota of 1.5 processors counts as 1: a second thread would only bring throttling. ONNX Runtime and OpenMP know the
    affinity but not the quota, so in a container they would start a thread for every processor of the host.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    for quota in _quotas(cgroups, membership):
        count = min(count, int(quota))
    return max(count, 1)


def resolve_threads(threads: int) -> int:
    """The recipe's number of threads; 0 stands for every available processor."""
    return threads if threads > 0 else available_processors()


def lanes_for(threads: int) -> int:
    """How many batches are computed side by side with so many threads.

    One for each thread is fastest; but each holds its own activations, so that on large machines each gets several
    threads. No processor is left over: where the number does not divide, there is a thread more than processors.
    """
    return -(-threads // -(-threads // MOST_LANES))


def threads_of_a_lane(threads: int, lanes: int) -> int:
    """Threads that compute one lane's batch, so that together there are no fewer than so many."""
    return -(-threads // lanes)


def wait_asleep() -> None:
    """Let threads that compute together sleep while they wait for each other, in this process and its children.

    OpenMP's threads spin otherwise. Beside other work on the same processors each then burns what the other needs: a
    training step on a busy machine took three to four times as long; on a quiet one it is the same within the noise.
    Call it before torch is imported. Who has set OMP_WAIT_POLICY keeps what is set.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _quotas(cgroups: Path, membership: Path) -> list[float]:
    """CPU quotas, in processors, of the process's cgroup and all its ancestors, in version 2 and version 1 files."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    quotas = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            root, read = cgroups, _quota_v2
        elif "cpu" in controllers.split(","):
            root, read = cgroups / controllers, _quota_v1
            if not root.is_dir():
                root = cgroups / "cpu"
        else:
            continue
        # Inside a container the path may be the host's: folders that do not exist here say nothing, the root does.
        folder = root / path.lstrip("/")
        for place in (folder, *folder.parents):
            quota = read(place)
            if quota is not None and quota > 0:
                quotas.append(quota)
            if place == root:
                break
    return quotas


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()[:2]
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return None if quota <= 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
