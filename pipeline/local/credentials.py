"""Passwords and keys of the embedded stack, generated on the first start."""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Self

from pipeline.errors import StackError
from pipeline.local.private_files import write_private_json

FILE = "credentials.json"


def _password() -> str:
    return secrets.token_urlsafe(24)


def _signing_key() -> str:
    return secrets.token_urlsafe(64)  # as long as SHA-512's digest


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Everything secret about one embedded stack. Kept out of repr, so that no log shows it."""

    postgres_password: str = field(default_factory=_password, repr=False)  # superuser; used by `up` only
    tidemark_password: str = field(default_factory=_password, repr=False)
    mlflow_password: str = field(default_factory=_password, repr=False)
    airflow_password: str = field(default_factory=_password, repr=False)  # Airflow's role in PostgreSQL
    s3_access_key: str = field(default_factory=lambda: secrets.token_hex(10), repr=False)
    s3_secret_key: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)
    airflow_admin_password: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)
    airflow_fernet_key: str = field(default_factory=_fernet_key, repr=False)
    airflow_jwt_secret: str = field(default_factory=_signing_key, repr=False)
    airflow_api_secret: str = field(default_factory=_signing_key, repr=False)

    @classmethod
    def of(cls, home: Path) -> Self:
        """Read the stack's credentials; on the first start, make and keep them.

        Raises:
            StackError: The file is damaged, or cannot be read or written.
        """
        path = home / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            known = {each.name for each in fields(cls)}
            credentials = cls(**{str(key): str(value) for key, value in content.items() if key in known})
        except FileNotFoundError:
            credentials, content = cls(), None
        except OSError as error:
            raise StackError(f"cannot read {path} ({error.strerror}): run as the user who started the stack") from None
        except (ValueError, AttributeError):
            raise StackError(f"{path} is damaged: restore it, or remove {home} to start with an empty stack") from None
        if content != asdict(credentials):
            write_private_json(path, asdict(credentials))
        return credentials
