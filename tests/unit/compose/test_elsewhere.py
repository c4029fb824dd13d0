"""Workers on other machines and Kubernetes know what they need and no more; what can be read of the files is right."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
WORKER: dict[str, Any] = yaml.safe_load((DOCKER / "worker.yaml").read_text())
CLUSTER: dict[str, Any] = yaml.safe_load((DOCKER / "cluster.yaml").read_text())
VALUES: dict[str, Any] = yaml.safe_load((DOCKER / "kubernetes" / "values.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((DOCKER / "kubernetes" / "tidemark.yaml").read_text()))
VARIABLE = re.compile(r"\$\{(\w+)(?:(:?[-?])([^}]*))?\}")

# What of the official chart's values is used, with its type: read by hand from its schema (Airflow 3.0.5, 650 kB) and
# from the parameter reference of chart 1.22.0.
CHART = {
    "executor": str, "airflowVersion": str, "defaultAirflowRepository": str, "defaultAirflowTag": str,
    "uid": int, "gid": int, "data.metadataSecretName": str, "fernetKeySecretName": str, "apiSecretKeySecretName": str,
    "jwtSecretName": str, "createUserJob.defaultUser.enabled": bool, "postgresql.enabled": bool, "redis.enabled": bool,
    "statsd.enabled": bool, "extraEnvFrom": str, "env": list, "volumes": list, "volumeMounts": list,
    "workers.resources": dict, "logs.persistence.enabled": bool, "logs.persistence.existingClaim": str,
}  # fmt: skip


def test_a_worker_elsewhere_is_the_worker_of_the_first_machine() -> None:
    for name in ("worker", "trainer", "trainer-gpu"):
        here, there = COMPOSE["services"][name], WORKER["services"][name]
        for key in ("image", "read_only", "cap_drop", "security_opt", "command", "mem_limit", "healthcheck", "restart"):
            assert here[key] == there[key], f"{name}: {key}"
        # The same environment; what is a service's name there is an address here, and has no default.
        assert here["environment"].keys() == there["environment"].keys()
        assert "ports" not in there


def test_addresses_and_secrets_elsewhere_have_no_default() -> None:
    text = (DOCKER / "worker.yaml").read_text()
    for name, operator, rest in VARIABLE.findall(text):
        if re.search("PASSWORD|SECRET|KEY|HOST$|ENDPOINT|TRACKING|EXECUTION", name):
            assert operator == ":?" or not rest, name
    administrators = {"POSTGRES_PASSWORD", "MINIO_ROOT_PASSWORD", "AIRFLOW_DB_PASSWORD", "AIRFLOW_JWT_SECRET"}
    assert not administrators & {name for name, _, _ in VARIABLE.findall(text)}


def test_what_workers_need_is_published_on_one_address_that_must_be_named() -> None:
    ports = {name: service["ports"] for name, service in CLUSTER["services"].items()}
    assert ports.keys() == {"airflow", "redis", "postgres", "minio", "mlflow"}
    assert all(re.match(r"\$\{CLUSTER_BIND:\?", port) for published in ports.values() for port in published)


@pytest.mark.skipif(
    shutil.which("docker-compose") is None, reason="needs docker-compose, which reads files without Docker"
)
def test_compose_reads_both_files(tmp_path: Path) -> None:
    env = tmp_path / "env"
    subprocess.run(["sh", str(DOCKER / "make-env.sh"), str(env)], check=True, capture_output=True)
    here = "10.0.0.5"
    with env.open("a") as file:
        file.write(
            f"CLUSTER_BIND={here}\nREDIS_HOST={here}\nPOSTGRES_HOST={here}\nMLFLOW_TRACKING_URI=http://{here}:5000\n"
        )
        file.write(f"TIDEMARK_S3_ENDPOINT=http://{here}:9000\nAIRFLOW_EXECUTION_URL=http://{here}:8080/execution/\n")

    def config(*files: str) -> dict[str, Any]:
        named = [part for file in files for part in ("-f", str(ROOT / file))]
        command = ["docker-compose", *named, "--env-file", str(env), "config"]
        found: dict[str, Any] = yaml.safe_load(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout
        )
        return found["services"]

    published = config("docker-compose.yaml", "docker/cluster.yaml")
    assert {port.split(":")[0] for port in published["redis"]["ports"]} == {here}
    worker = config("docker/worker.yaml")["worker"]["environment"]
    assert worker["AIRFLOW__CELERY__BROKER_URL"].endswith(f"@{here}:6379/0")


def leaves(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{path}{key}"
        found |= leaves(value, f"{name}.") if isinstance(value, dict) and name not in CHART else {name: value}
    return found


def test_values_are_the_charts_and_hold_no_secret() -> None:
    found = leaves(VALUES)
    assert found.keys() <= CHART.keys()
    assert {name for name, value in found.items() if not isinstance(value, CHART[name])} == set()
    assert yaml.safe_load(VALUES["extraEnvFrom"]) == [{"secretRef": {"name": "tidemark"}}]
    assert not [item for item in VALUES["env"] if re.search("PASSWORD|SECRET|_KEY|URL$", item["name"])]
    # Folders of the image that the chart would look for elsewhere.
    dockerfile = (DOCKER / "Dockerfile").read_text()
    env = {item["name"]: item["value"] for item in VALUES["env"]}
    for name in ("AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW__CORE__PLUGINS_FOLDER", "TIDEMARK_HOME", "TIDEMARK_STREAMS"):
        assert f"{name}={env[name]}" in dockerfile
    assert f"--uid {VALUES['uid']} --gid tidemark" in dockerfile
    mounted = {item["name"] for item in VALUES["volumeMounts"]}
    assert mounted == {item["name"] for item in VALUES["volumes"]}
    claims = {item["metadata"]["name"] for item in MANIFESTS if item["kind"] == "PersistentVolumeClaim"}
    used = {item["persistentVolumeClaim"]["claimName"] for item in VALUES["volumes"] if "persistentVolumeClaim" in item}
    assert used | {VALUES["logs"]["persistence"]["existingClaim"]} == claims


def test_what_the_chart_does_not_bring_is_bounded_and_not_root() -> None:
    kinds = [item["kind"] for item in MANIFESTS]
    assert kinds == ["PersistentVolumeClaim", "PersistentVolumeClaim", "Job", "Deployment", "Service"]
    for item in MANIFESTS:
        if item["kind"] in {"Job", "Deployment"}:
            pod = item["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["automountServiceAccountToken"] is False
            for container in pod["containers"]:
                assert container["securityContext"]["readOnlyRootFilesystem"] is True
                assert container["resources"]["limits"]["memory"]
                assert not [each for each in container.get("env", []) if re.search("PASSWORD|_KEY", each["name"])]
