"""What init grants, and how it reads its environment."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipeline.errors import ConfigurationError

FOLDER = Path(__file__).parents[3] / "docker"
ENVIRONMENT = {
    "TIDEMARK_S3_ENDPOINT": "http://minio:9000",
    "TIDEMARK_S3_REGION": "us-east-1",
    "TIDEMARK_IMAGE_BUCKET": "images",
    "TIDEMARK_ARTIFACT_BUCKET": "tidemark",
    "MINIO_ROOT_USER": "root-x",
    "MINIO_ROOT_PASSWORD": "r",
    **{
        f"{prefix}_{name}": f"{prefix}-{name}"
        for prefix in ("TIDEMARK_S3", "MLFLOW_S3", "OPERATOR_S3")
        for name in ("ACCESS_KEY", "SECRET_KEY")
    },
}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


store_logins = load("store_logins")
databases = load("databases")


def may(policy: dict[str, Any], action: str, resource: str) -> bool:
    """Whether a policy allows something, read as IAM reads it."""
    return any(
        action in statement["Action"] and any(matches(pattern, resource) for pattern in statement["Resource"])
        for statement in policy["Statement"]
    )


def matches(pattern: str, resource: str) -> bool:
    arn = f"arn:aws:s3:::{resource}"
    return arn.startswith(pattern[:-1]) if pattern.endswith("*") else arn == pattern


@pytest.mark.parametrize(
    ("login", "action", "resource", "allowed"),
    [
        ("pipeline", "s3:GetObject", "images/digits/1.png", True),
        ("pipeline", "s3:ListBucket", "images", True),
        ("pipeline", "s3:PutObject", "images/digits/1.png", False),
        ("pipeline", "s3:DeleteObject", "images/digits/1.png", False),
        ("pipeline", "s3:PutObject", "tidemark/batches/1", True),
        ("pipeline", "s3:GetObject", "other/x", False),
        ("mlflow", "s3:PutObject", "tidemark/mlflow/1/model.onnx", True),
        ("mlflow", "s3:PutObject", "tidemark/references/1", False),
        ("mlflow", "s3:GetObject", "images/digits/1.png", False),
        ("operator", "s3:PutObject", "images/digits/1.png", True),
    ],
)
def test_a_login_may_do_its_work_and_no_more(login: str, action: str, resource: str, allowed: bool) -> None:
    policies = store_logins.policies_of("images", "tidemark")
    assert may(policies[f"tidemark-{login}"], action, resource) is allowed


def test_nobody_may_do_everything() -> None:
    for policy in store_logins.policies_of("images", "tidemark").values():
        for statement in policy["Statement"]:
            assert not any("*" in action for action in statement["Action"])
            assert "arn:aws:s3:::*" not in statement["Resource"]


def test_root_makes_logins_on_minio_and_the_operator_buckets_elsewhere() -> None:
    minio = store_logins.Store.from_environment(ENVIRONMENT)
    assert minio.administrator.access_key == "root-x"
    other = store_logins.Store.from_environment({**ENVIRONMENT, "STORE_LOGINS": "none"})
    assert other.administrator.access_key == "OPERATOR_S3-ACCESS_KEY"
    assert "somebody else" in other.make_logins()  # and nothing is asked of the store


def test_a_setting_that_means_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="minio or none, not ceph"):
        store_logins.Store.from_environment({**ENVIRONMENT, "STORE_LOGINS": "ceph"})


def test_addresses_carry_options() -> None:
    server = databases.Server(
        host="db", port=5433, options="?sslmode=require", user="admin", password="a b", passwords={}
    )
    assert server.url("admin", "a b", "mlflow") == "postgresql://admin:a%20b@db:5433/mlflow?sslmode=require"
