"""docker-compose.yaml keeps its promises: limits, health, logs, who knows which secret, what is reachable."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docker-compose.yaml").read_text(encoding="utf-8")
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
ONCE = {"init", "cli"}  # they end
SERVERS = {"postgres", "minio", "redis", "caddy"}  # other people's images
OURS = SERVICES.keys() - SERVERS
SECRET = re.compile(r"PASSWORD|SECRET|KEY|ROOT_USER")
VARIABLE = re.compile(r"\$\{(\w+)(?:(:?[-?])([^}]*))?\}")


def variables(value: Any) -> set[str]:
    """Names of the settings that some part of the file takes from .env."""
    return {name for name, _, _ in VARIABLE.findall(yaml.safe_dump(value, width=10_000))}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_bounded_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"(\$\{\w+_MEMORY:-)?\d+[mg]\}?", service["mem_limit"])
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert service["networks"] == ["tidemark"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "container_name" not in service  # it could not be scaled
    if name in ONCE:
        assert service["restart"] == "no"
        assert service["healthcheck"] == {"disable": True}
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
        assert {"interval", "timeout", "retries"} <= service["healthcheck"].keys()


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_services_are_one_image_that_may_change_nothing(name: str) -> None:
    service = SERVICES[name]
    assert service["image"] == "${TIDEMARK_IMAGE:-tidemark:latest}"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["init"] is True
    assert "user" not in service  # the image's own, which is not root


@pytest.mark.parametrize("name", sorted(OURS - ONCE))
def test_nothing_starts_before_init_has_ended(name: str) -> None:
    assert SERVICES[name]["depends_on"]["init"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_images_of_others_are_named_with_their_version(name: str) -> None:
    image = SERVICES[name]["image"]
    tag = image.rstrip("}").rpartition(":")[2]
    assert re.match(r"\d|RELEASE\.\d{4}", tag), image


def test_only_the_pages_can_be_reached_and_only_from_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"airflow", "caddy"}
    assert published["airflow"] == ["${TIDEMARK_BIND:-127.0.0.1}:${TIDEMARK_PORT:-8080}:8080"]
    assert SERVICES["caddy"]["profiles"] == ["tls"]  # whoever asks for it wants to be reached


def test_no_secret_has_a_default() -> None:
    for name, operator, rest in VARIABLE.findall(TEXT):
        if SECRET.search(name):
            assert operator == ":?" or (operator == ":-" and not rest), f"{name}{operator}{rest}"
    assert "minioadmin" not in TEXT


def test_what_cannot_be_done_without_stops_the_start() -> None:
    required = {name for name, operator, _ in VARIABLE.findall(TEXT) if operator == ":?"}
    assert {"POSTGRES_PASSWORD", "MINIO_ROOT_PASSWORD", "REDIS_PASSWORD", "AIRFLOW_ADMIN_PASSWORD"} <= required
    assert all("make env" in rest for _, operator, rest in VARIABLE.findall(TEXT) if operator == ":?")


@pytest.mark.parametrize(
    ("secret", "knowing"),
    [
        ("POSTGRES_PASSWORD", {"postgres", "init"}),
        ("MINIO_ROOT_PASSWORD", {"minio", "init"}),
        ("AIRFLOW_DB_PASSWORD", {"init", "airflow", "scheduler", "dag-processor", "triggerer"}),
        ("MLFLOW_DB_PASSWORD", {"init", "mlflow"}),
        ("MLFLOW_S3_SECRET_KEY", {"init", "mlflow"}),
        ("OPERATOR_S3_SECRET_KEY", {"init", "cli"}),
        ("AIRFLOW_ADMIN_PASSWORD", {"init", "cli"}),
        ("TIDEMARK_DB_PASSWORD", {"init", "airflow", "worker", "trainer", "trainer-gpu", "cli"}),
        ("TIDEMARK_S3_SECRET_KEY", {"init", "airflow", "worker", "trainer", "trainer-gpu"}),
        ("REDIS_PASSWORD", {"redis", "scheduler", "worker", "trainer", "trainer-gpu"}),
        ("TIDEMARK_METRICS_TOKEN", {"airflow"}),
        ("AIRFLOW_JWT_SECRET", {"init", "airflow", "scheduler", "dag-processor", "triggerer"}),
    ],
)
def test_a_secret_is_known_to_those_who_need_it(secret: str, knowing: set[str]) -> None:
    assert {name for name, service in SERVICES.items() if secret in variables(service)} == knowing


def test_every_setting_is_in_the_file_that_make_env_writes_or_has_a_default() -> None:
    written = set(re.findall(r"^#?(\w+)=", (ROOT / "docker" / "make-env.sh").read_text(), re.MULTILINE))
    for name, operator, _ in VARIABLE.findall(TEXT):
        assert name in written or operator == ":-", name


def test_trainings_have_workers_of_their_own() -> None:
    def queue(name: str) -> str:
        command = SERVICES[name]["command"]
        return str(command[command.index("--queues") + 1])

    assert [queue(name) for name in ("worker", "trainer", "trainer-gpu")] == ["scoring", "training", "training"]
    assert SERVICES["dag-processor"]["environment"]["TIDEMARK_TRAINING_QUEUE"] == "training"
    assert SERVICES["worker"]["environment"]["AIRFLOW__OPERATORS__DEFAULT_QUEUE"] == "scoring"


def test_what_must_last_is_in_named_volumes() -> None:
    used = {
        mount.partition(":")[0]
        for service in SERVICES.values()
        for mount in service.get("volumes", [])
        if not mount.startswith(".")
    }
    assert used == FILE["volumes"].keys()
    assert all(mount.endswith(":ro") for s in SERVICES.values() for mount in s.get("volumes", []) if mount[0] == ".")


def test_the_pages_find_streams_and_a_place_to_work() -> None:
    """Without them they know no stream, and cannot try the model that a roll back fetches."""
    mounts = set(SERVICES["airflow"]["volumes"])
    assert {"./streams:/opt/tidemark/streams:ro", "work:/var/lib/tidemark"} <= mounts


def test_users_are_real_ones() -> None:
    assert SERVICES["airflow"]["environment"]["AIRFLOW__CORE__AUTH_MANAGER"].endswith("FabAuthManager")


def test_the_lab_changes_nothing_but_stand_ins() -> None:
    lab = yaml.safe_load((ROOT / "tests" / "compose" / "lab.yaml").read_text(encoding="utf-8"))["services"]
    for name, service in lab.items():
        own = {"entrypoint", "command"} if name == "minio" else set()
        assert service.keys() - own <= {"healthcheck", "environment", "build"}, name
    # MinIO's stand-in serves the same folder at the same port, without the cache that would say a full disk has room.
    stand_in = [*lab["minio"]["entrypoint"], *lab["minio"]["command"]]
    assert stand_in[:5] == ["rclone", "serve", "s3", "--addr", ":9000"]
    assert stand_in[7:] == ["--vfs-cache-mode", "off", "--no-cleanup", "/data"]
