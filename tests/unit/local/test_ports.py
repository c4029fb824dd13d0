from __future__ import annotations

import socket

import pytest

from pipeline.errors import ConfigurationError, PortTaken
from pipeline.local.ports import VARIABLES, Ports, is_free, require_free
from tests.free_ports import free_port


@pytest.fixture(autouse=True)
def _no_ports_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


def test_every_port_has_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = dict(zip(VARIABLES, range(4001, 4005), strict=True))
    for name, variable in VARIABLES.items():
        monkeypatch.setenv(variable, str(wanted[name]))
    assert Ports.from_environment().to_dict() == wanted


def test_what_no_variable_says_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_S3_PORT", "4711")
    monkeypatch.setenv("TIDEMARK_MLFLOW_PORT", "")
    before = Ports(postgres=1, s3=2, mlflow=3, airflow=4)
    assert Ports.from_environment(before) == Ports(postgres=1, s3=4711, mlflow=3, airflow=4)


@pytest.mark.parametrize("text", ["0", "65536", "-1", "8080.0", "http", " 80 80", "²"])
def test_what_is_no_port_is_refused_with_its_variable(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_AIRFLOW_PORT", text)
    with pytest.raises(ConfigurationError, match=r"TIDEMARK_AIRFLOW_PORT is .* from 1 to 65535"):
        Ports.from_environment()


def test_two_services_cannot_share_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_S3_PORT", str(Ports().postgres))
    with pytest.raises(ConfigurationError, match="TIDEMARK_POSTGRES_PORT and TIDEMARK_S3_PORT"):
        Ports.from_environment()


def test_a_taken_port_is_named_with_its_owner_and_variable() -> None:
    port = free_port()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        assert not is_free(port)
        with pytest.raises(PortTaken, match=rf"port {port} for S3 is taken by .*TIDEMARK_S3_PORT"):
            require_free([("s3", "S3", port)])
    assert is_free(port)
    require_free([("s3", "S3", port)])


def test_free_ports_differ_and_are_free() -> None:
    found = [set(Ports.free().to_dict().values()) for _ in range(2)]
    assert {len(ports) for ports in found} == {len(VARIABLES)}
    # Somebody else's connection may take a port of one of them at this moment.
    assert any(all(map(is_free, ports)) for ports in found)
