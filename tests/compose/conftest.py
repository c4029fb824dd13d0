"""The composed stack for tests that break it. It must be up and have played `make compose-demo`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.compose.stack import Stack

REASON = "breaks a composed stack on purpose: needs Docker and an hour, run `make compose-test`"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave these tests out wherever nobody asked for them; give them time where somebody did."""
    asked = os.environ.get("COMPOSE_TESTS")
    for item in items:
        if "tests/compose/" in item.path.as_posix():
            item.add_marker(pytest.mark.timeout(3600) if asked else pytest.mark.skip(reason=REASON))


@pytest.fixture(scope="session")
def stack() -> Stack:
    stack = Stack()
    if stack.query("select count(*) from tidemark.batch where stream <> 'digits'") != "0":
        pytest.exit("this stack serves other streams than the demo's: these tests would destroy their data", 2)
    return stack


@pytest.fixture(autouse=True)
def told(request: pytest.FixtureRequest) -> Iterator[None]:
    """How long each test took, for the table in docs/operations.md."""
    begun = time.monotonic()
    yield
    print(f"\n{request.node.name}: {time.monotonic() - begun:.0f} s")
