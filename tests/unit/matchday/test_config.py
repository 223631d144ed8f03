from __future__ import annotations

import re
from pathlib import Path

import pytest

from matchday import config
from matchday.config import ConfigError
from matchday.home import Home

REPOSITORY = Path(config.__file__).resolve().parent.parent


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    home = Home(tmp_path / "home")
    with home.held():
        made = home.environment({})
    return {**made, "DATABASE_URL": "postgresql://localhost/x", "REDIS_URL": "redis://localhost/0"}


def test_what_a_home_makes_is_a_whole_configuration(environment: dict[str, str]) -> None:
    loaded = config.read(environment)
    assert loaded.public_url == f"http://127.0.0.1:{loaded.port}"
    assert loaded.razorpay_webhook_secrets == (environment["RAZORPAY_WEBHOOK_SECRETS"],)


def test_secrets_outlive_a_restart_and_are_private(tmp_path: Path) -> None:
    first, second = Home(tmp_path / "home"), Home(tmp_path / "home")
    with first.held():
        before = first.environment({})
    with second.held():
        after = second.environment({})
    secret = {key for key in before if "SECRET" in key or "PEPPER" in key}
    assert secret and {key: before[key] for key in secret} == {key: after[key] for key in secret}
    assert [
        path.name for path in first.path.iterdir() if path.stat().st_mode & 0o077 and path.suffix in (".json", ".pem")
    ] == []


def test_every_fault_is_named_at_once_and_no_value_is_quoted(environment: dict[str, str]) -> None:
    broken = {
        **environment,
        "DATABASE_URL": "mysql://x",
        "MATCHDAY_PORT": "٨٠",
        "PASSWORD_PEPPER": "hunter2",
        "HSTS": "perhaps",
        "TOKEN_KEY_FILES": "/nowhere.pem",
        "SMTP_USERNAME": "somebody",
    }
    del broken["REDIS_URL"]
    with pytest.raises(ConfigError) as refusal:
        config.read(broken)
    named = {fault.split()[0] for fault in refusal.value.faults}
    assert named >= {
        "DATABASE_URL",
        "HSTS",
        "MATCHDAY_PORT",
        "PASSWORD_PEPPER",
        "REDIS_URL",
        "SMTP_USERNAME",
        "TOKEN_KEY_FILES",
    }
    assert "hunter2" not in str(refusal.value)


def test_no_secret_shows_in_a_repr(environment: dict[str, str]) -> None:
    shown = repr(config.read(environment))
    for key in ("PASSWORD_PEPPER", "CODE_PEPPER", "CURSOR_SECRETS", "RAZORPAY_KEY_SECRET", "RAZORPAY_WEBHOOK_SECRETS"):
        assert environment[key] not in shown
    assert "PRIVATE KEY" not in shown


def test_the_readme_lists_every_key() -> None:
    source = Path(config.__file__).read_text("utf-8")
    keys = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', source)) | {"MATCHDAY_HOME"}
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    assert [key for key in sorted(keys) if f"`{key}`" not in readme] == []
