"""Buckets of the store, and logins that may do no more than their work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from minio.credentials import StaticProvider
from minio.error import MinioAdminException
from minio.minioadmin import MinioAdmin
from pydantic import SecretStr
from urllib3.exceptions import HTTPError

from pipeline.errors import ConfigurationError, StoreRefused, StoreUnreachable
from pipeline.settings import Settings
from pipeline.storage.objects import ObjectStore

MINIO, NONE = "minio", "none"


@dataclass(frozen=True, kw_only=True)
class Login:
    """Somebody who may use the store."""

    name: str
    access_key: str
    secret_key: str


@dataclass(frozen=True, kw_only=True)
class Store:
    """The store with its administrator, and the logins it is to have."""

    endpoint: str
    region: str
    administrator: Login
    logins: tuple[Login, ...]
    image_bucket: str
    artifact_bucket: str
    kind: str

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Self:
        """As docker-compose.yaml gives it.

        Raises:
            ConfigurationError: STORE_LOGINS says what it cannot.
        """
        kind = env.get("STORE_LOGINS") or MINIO
        if kind not in (MINIO, NONE):
            raise ConfigurationError(f"STORE_LOGINS is {MINIO} or {NONE}, not {kind}")
        logins = tuple(
            Login(name=name, access_key=env[f"{prefix}_ACCESS_KEY"], secret_key=env[f"{prefix}_SECRET_KEY"])
            for name, prefix in (
                ("tidemark-pipeline", "TIDEMARK_S3"),
                ("tidemark-mlflow", "MLFLOW_S3"),
                ("tidemark-operator", "OPERATOR_S3"),
            )
        )
        root = Login(
            name="root", access_key=env.get("MINIO_ROOT_USER", ""), secret_key=env.get("MINIO_ROOT_PASSWORD", "")
        )
        return cls(
            endpoint=env["TIDEMARK_S3_ENDPOINT"],
            region=env["TIDEMARK_S3_REGION"],
            # Where no logins are made, the operator makes the buckets, unless they are there.
            administrator=root if kind == MINIO else logins[2],
            logins=logins,
            image_bucket=env["TIDEMARK_IMAGE_BUCKET"],
            artifact_bucket=env["TIDEMARK_ARTIFACT_BUCKET"],
            kind=kind,
        )

    def make_buckets(self) -> None:
        """Create both buckets where they are missing.

        Raises:
            StoreError: The store does not serve or refuses.
        """
        settings = Settings(
            s3_endpoint=self.endpoint,
            s3_access_key=SecretStr(self.administrator.access_key),
            s3_secret_key=SecretStr(self.administrator.secret_key),
            s3_region=self.region,
            image_bucket=self.image_bucket,
            artifact_bucket=self.artifact_bucket,
        )
        ObjectStore.from_settings(settings).make_buckets()

    def make_logins(self) -> str:
        """Make the logins, each with a policy of its own; say in a sentence what was done.

        Raises:
            StoreError: The store does not serve or refuses.
        """
        if self.kind == NONE:
            return "its logins are somebody else's matter (STORE_LOGINS=none)"
        url = urlsplit(self.endpoint)
        provider = StaticProvider(self.administrator.access_key, self.administrator.secret_key)
        admin = MinioAdmin(endpoint=url.netloc, credentials=provider, region=self.region, secure=url.scheme == "https")
        policies = policies_of(self.image_bucket, self.artifact_bucket)
        try:
            for login in self.logins:
                admin.user_add(login.access_key, login.secret_key)
                admin.policy_add(login.name, policy=policies[login.name])
                if login.name not in _attached(admin, login):
                    admin.policy_set(login.name, user=login.access_key)
        except MinioAdminException as error:
            raise StoreRefused(
                f"the store at {self.endpoint} does not let {self.administrator.name} make logins ({error}): "
                "is it MinIO? For any other store set STORE_LOGINS=none and make them there"
            ) from None
        except HTTPError as error:
            raise StoreUnreachable(f"the store at {self.endpoint} does not answer ({error})") from None
        return f"{len(self.logins)} logins are there"


def _attached(admin: MinioAdmin, login: Login) -> set[str]:
    """Policies that a user has."""
    return set(str(json.loads(admin.user_info(login.access_key)).get("policyName") or "").split(","))


def policies_of(images: str, artifacts: str) -> dict[str, dict[str, Any]]:
    """Login → its policy, in the language of IAM."""
    list_ = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"]
    read = ["s3:GetObject"]
    write = ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    both = [_allow(list_, images, artifacts)]
    return {
        "tidemark-pipeline": _policy(*both, _allow(read, f"{images}/*"), _allow([*read, *write], f"{artifacts}/*")),
        "tidemark-mlflow": _policy(_allow(list_, artifacts), _allow([*read, *write], f"{artifacts}/mlflow/*")),
        "tidemark-operator": _policy(*both, _allow([*read, *write], f"{images}/*", f"{artifacts}/*")),
    }


def _allow(actions: list[str], *resources: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": [f"arn:aws:s3:::{each}" for each in resources]}


def _policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}
