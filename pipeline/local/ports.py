"""The ports of the embedded stack: where they come from, and whether they are free."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Self

import psutil

from pipeline.errors import ConfigurationError, PortTaken

HOST = "127.0.0.1"  # the only address the stack ever listens on

VARIABLES: Mapping[str, str] = {
    "postgres": "TIDEMARK_POSTGRES_PORT",
    "s3": "TIDEMARK_S3_PORT",
    "mlflow": "TIDEMARK_MLFLOW_PORT",
    "airflow": "TIDEMARK_AIRFLOW_PORT",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ports:
    """One TCP port for each of the four services."""

    postgres: int = 5439
    s3: int = 9005
    mlflow: int = 5005
    airflow: int = 8080

    @classmethod
    def from_environment(cls, otherwise: Ports | None = None) -> Self:
        """The defaults or the ports given, each overridden by its variable of VARIABLES.

        Raises:
            ConfigurationError: A variable is not a port, or two services would share one.
        """
        chosen: dict[str, int] = {}
        for name, variable in VARIABLES.items():
            text = os.environ.get(variable)
            if not text:
                continue
            # isdecimal() alone lets other scripts' digits through; int() reads those as well.
            if not text.isdecimal() or not 1 <= int(text) <= 65535:
                raise ConfigurationError(f"{variable} is {text!r}: set it to a port from 1 to 65535")
            chosen[name] = int(text)
        ports = cls(**{**(otherwise or cls()).to_dict(), **chosen})
        used: dict[int, str] = {}
        for name, port in ports.to_dict().items():
            if port in used:
                raise ConfigurationError(
                    f"{VARIABLES[used[port]]} and {VARIABLES[name]} are both {port}: give each service its own port"
                )
            used[port] = name
        return ports

    @classmethod
    def free(cls) -> Self:
        """Ports that nothing listens on at this moment."""
        sockets = [socket.socket() for _ in fields(cls)]
        try:
            for each in sockets:
                each.bind((HOST, 0))
            return cls(**{field.name: each.getsockname()[1] for field, each in zip(fields(cls), sockets, strict=True)})
        finally:
            for each in sockets:
                each.close()

    def to_dict(self) -> dict[str, int]:
        """Service name → port."""
        return asdict(self)


def require_free(wanted: Iterable[tuple[str, str, int]]) -> None:
    """Make sure that nobody listens on these ports: (service name, its title, port).

    Raises:
        PortTaken: Somebody does; the message names them, if they can be seen, and the variable that changes the port.
    """
    for name, title, port in wanted:
        if is_free(port):
            continue
        raise PortTaken(
            f"port {port} for {title} is taken{_by_whom(port)}: "
            f"end that program, or set {VARIABLES[name]} to a free port"
        )


def is_free(port: int) -> bool:
    """Whether this machine would let us listen on the loopback address."""
    with socket.socket() as probe:
        # As servers do: connections of a server that has just ended (TIME_WAIT) do not make its port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _by_whom(port: int) -> str:
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass  # other users' sockets are hidden from us on some systems; the port is taken all the same
    return ""
