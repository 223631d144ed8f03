"""Configuration: environment → frozen Config. Every key, its unit and its default is here.

All faults are reported at once. Secrets never show in a repr, and a fault never quotes a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

MIN_SECRET_BYTES = 32


class ConfigError(Exception):
    """The configuration cannot be used; `faults` names each key and what is wrong with it."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the processes run on. The comment of each line of `read` says the environment key."""

    database_url: str
    database_owner_url: str
    redis_url: str
    host: str
    port: int
    public_url: str
    metrics_host: str
    metrics_port: int | None
    cors_origins: tuple[str, ...]
    hsts: bool
    pool_max: int
    statement_timeout_s: float
    response_validation: Literal["off", "sampled", "strict"]
    log_format: Literal["json", "text"]
    token_keys: tuple[str, ...] = field(repr=False)
    token_ttl_s: int
    password_pepper: str = field(repr=False)
    code_pepper: str = field(repr=False)
    cursor_secrets: tuple[str, ...] = field(repr=False)
    realtime_lifetime_s: float
    wallet_closed_loop: bool
    razorpay_url: str
    razorpay_key_id: str
    razorpay_key_secret: str = field(repr=False)
    razorpay_webhook_secrets: tuple[str, ...] = field(repr=False)
    smtp_host: str
    smtp_port: int
    smtp_starttls: bool
    smtp_username: str | None
    smtp_password: str | None = field(repr=False)
    mail_from: str
    sandbox_port: int
    sandbox_smtp_port: int
    sandbox_dir: Path
    anchor_key: str | None = field(repr=False)
    anchor_file: Path

    @property
    def problem_base(self) -> str:
        """What the `type` of every problem begins with."""
        return f"{self.public_url}/problems/"


def read(environ: Mapping[str, str]) -> Config:
    """Read the configuration. Raises ConfigError with every fault found."""
    env = _Reader(environ)
    host = env.text("MATCHDAY_HOST", "127.0.0.1")
    port = env.integer("MATCHDAY_PORT", 8080, low=1, high=65535)
    database_url = env.url("DATABASE_URL", None, schemes=("postgresql", "postgres"))
    config = Config(
        database_url=database_url,
        database_owner_url=env.url("DATABASE_OWNER_URL", database_url, schemes=("postgresql", "postgres")),
        redis_url=env.url("REDIS_URL", None, schemes=("redis", "rediss", "unix")),
        host=host,
        port=port,
        public_url=env.url("PUBLIC_URL", f"http://{host}:{port}", schemes=("http", "https")).rstrip("/"),
        metrics_host=env.text("METRICS_HOST", "127.0.0.1"),
        metrics_port=env.integer("METRICS_PORT", 0, low=1, high=65000) or None,  # not served
        cors_origins=env.items("CORS_ORIGINS"),  # exact origins, separated by commas
        hsts=env.flag("HSTS", False),
        pool_max=env.integer("DB_POOL_MAX", 10, low=2, high=500),
        statement_timeout_s=env.integer("STATEMENT_TIMEOUT_S", 5, low=1, high=600),
        response_validation=cast(
            Literal["off", "sampled", "strict"],
            env.choice("RESPONSE_VALIDATION", "sampled", ("off", "sampled", "strict")),
        ),
        log_format=cast(Literal["json", "text"], env.choice("LOG_FORMAT", "json", ("json", "text"))),
        token_keys=env.files("TOKEN_KEY_FILES"),  # PEM files, P-256; the first signs
        token_ttl_s=env.integer("TOKEN_TTL_S", 900, low=30, high=3600),
        password_pepper=env.secret("PASSWORD_PEPPER"),
        code_pepper=env.secret("CODE_PEPPER"),
        cursor_secrets=env.secrets("CURSOR_SECRETS"),  # the first seals, all open
        realtime_lifetime_s=env.milliseconds("REALTIME_LIFETIME_MS", 600_000, low=100, high=86_400_000),
        wallet_closed_loop=env.flag("WALLET_CLOSED_LOOP", True),
        razorpay_url=env.url("RAZORPAY_API_URL", "https://api.razorpay.com", schemes=("http", "https")).rstrip("/"),
        razorpay_key_id=env.text("RAZORPAY_KEY_ID", None),
        razorpay_key_secret=env.text("RAZORPAY_KEY_SECRET", None),
        razorpay_webhook_secrets=env.items("RAZORPAY_WEBHOOK_SECRETS", required=True),  # new and old in a rotation
        smtp_host=env.text("SMTP_HOST", None),
        smtp_port=env.integer("SMTP_PORT", 587, low=1, high=65535),
        smtp_starttls=env.flag("SMTP_STARTTLS", True),
        smtp_username=env.optional("SMTP_USERNAME"),
        smtp_password=env.optional("SMTP_PASSWORD"),
        mail_from=env.text("MAIL_FROM", None),
        sandbox_port=env.integer("SANDBOX_PORT", 8081, low=1, high=65535),
        sandbox_smtp_port=env.integer("SANDBOX_SMTP_PORT", 8025, low=1, high=65535),
        sandbox_dir=Path(env.text("SANDBOX_DIR", ".matchday/sandbox")),
        anchor_key=next(iter(env.files("LEDGER_ANCHOR_KEY_FILE", required=False)), None),  # PEM file, Ed25519, private
        anchor_file=Path(env.text("LEDGER_ANCHOR_FILE", ".matchday/anchors.jsonl")),
    )
    if host in ("0.0.0.0", "::") and not environ.get("PUBLIC_URL"):  # noqa: S104
        env.faults.append("PUBLIC_URL must be set when MATCHDAY_HOST is every address")
    if (config.smtp_username is None) != (config.smtp_password is None):
        env.faults.append("SMTP_USERNAME and SMTP_PASSWORD go together")
    if config.smtp_username is not None and not config.smtp_starttls:
        env.faults.append("SMTP_USERNAME needs SMTP_STARTTLS=true")
    if "@" not in config.mail_from:
        env.faults.append("MAIL_FROM must be a mail address")
    if env.faults:
        raise ConfigError(sorted(set(env.faults)))
    return config


class _Reader:
    """Reads keys and collects faults; what is faulty reads as a harmless value, so that reading goes on."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.faults: list[str] = []

    def text(self, key: str, default: str | None) -> str:
        value = self._environ.get(key) or default
        if value is None:
            self.faults.append(f"{key} must be set")
            return "@"
        return value

    def optional(self, key: str) -> str | None:
        return self._environ.get(key) or None

    def integer(self, key: str, default: int, *, low: int, high: int) -> int:
        value = self._environ.get(key)
        if not value:
            return default
        if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
            self.faults.append(f"{key} must be a whole number from {low} to {high}")
            return default
        return int(value)

    def milliseconds(self, key: str, default: int, *, low: int, high: int) -> float:
        return self.integer(key, default, low=low, high=high) / 1000

    def flag(self, key: str, default: bool) -> bool:
        return self.choice(key, str(default).lower(), ("true", "false")) == "true"

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        value = self._environ.get(key) or default
        if value not in choices:
            self.faults.append(f"{key} must be one of {', '.join(choices)}")
            return default
        return value

    def items(self, key: str, *, required: bool = False) -> tuple[str, ...]:
        found = tuple(item.strip() for item in self._environ.get(key, "").split(",") if item.strip())
        if required and not found:
            self.faults.append(f"{key} must be set")
        return found

    def url(self, key: str, default: str | None, *, schemes: tuple[str, ...]) -> str:
        value = self.text(key, default)
        if value != "@" and urlsplit(value).scheme not in schemes:
            self.faults.append(f"{key} must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    def secret(self, key: str) -> str:
        return self._long_enough(key, self.text(key, None))

    def secrets(self, key: str) -> tuple[str, ...]:
        return tuple(self._long_enough(key, item) for item in self.items(key, required=True))

    def files(self, key: str, *, required: bool = True) -> tuple[str, ...]:
        texts = []
        for path in self.items(key, required=required):
            try:
                texts.append(Path(path).read_text("ascii"))
            except (OSError, UnicodeDecodeError):
                self.faults.append(f"{key} names a file that cannot be read")
        return tuple(texts)

    def _long_enough(self, key: str, value: str) -> str:
        if value != "@" and len(value.encode()) < MIN_SECRET_BYTES:
            self.faults.append(f"{key} must have at least {MIN_SECRET_BYTES} bytes")
        return value
