from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.model.processors import (
    MOST_LANES,
    available_processors,
    lanes_for,
    resolve_threads,
    threads_of_a_lane,
    wait_asleep,
)

MINE = len(os.sched_getaffinity(0))


def tree(root: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    for name, content in files.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (root / "membership").write_text(membership)
    return root / "cgroup", root / "membership"


def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    assert available_processors(*tree(tmp_path, "0::/\n", {"cpu.max": "max 100000\n"})) == MINE


def test_without_cgroups_the_affinity_counts(tmp_path: Path) -> None:
    assert available_processors(tmp_path / "none", tmp_path / "nothing") == MINE


@pytest.mark.parametrize(("quota", "expected"), [(50_000, 1), (100_000, 1), (199_000, 1), (100_000_000, MINE)])
def test_a_quota_limits_but_leaves_one(tmp_path: Path, quota: int, expected: int) -> None:
    assert available_processors(*tree(tmp_path, "0::/\n", {"cpu.max": f"{quota} 100000\n"})) == expected


def test_the_quota_of_an_enclosing_group_limits_too(tmp_path: Path) -> None:
    files = {"a/cpu.max": "100000 100000\n", "a/b/cpu.max": "max 100000\n"}
    assert available_processors(*tree(tmp_path, "0::/a/b\n", files)) == 1


def test_version_one_quotas_limit(tmp_path: Path) -> None:
    files = {"cpu,cpuacct/x/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"}
    assert available_processors(*tree(tmp_path, "3:memory:/x\n4:cpu,cpuacct:/x\n", files)) == 1


def test_version_one_says_minus_one_for_no_quota(tmp_path: Path) -> None:
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}
    assert available_processors(*tree(tmp_path, "4:cpu,cpuacct:/\n", files)) == MINE


def test_nonsense_in_the_files_limits_nothing(tmp_path: Path) -> None:
    assert available_processors(*tree(tmp_path, "0::/\nx\n", {"cpu.max": "many few"})) == MINE


def test_a_number_in_the_recipe_wins() -> None:
    assert resolve_threads(3) == 3
    assert resolve_threads(0) == available_processors() >= 1


@pytest.mark.parametrize("threads", range(1, 65))
def test_lanes_leave_no_processor_idle(threads: int) -> None:
    lanes = lanes_for(threads)
    each = threads_of_a_lane(threads, lanes)
    assert lanes <= MOST_LANES
    assert threads <= lanes * each < threads + each
    assert lanes == threads or threads > MOST_LANES


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    wait_asleep()
    assert os.environ["OMP_WAIT_POLICY"] == expected
