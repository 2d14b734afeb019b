"""Settings: the one place that reads the environment.

Names are `SHUTONG_<FIELD>` or `SHUTONG_<SECTION>_<FIELD>` (`SHUTONG_KAFKA_BOOTSTRAP_SERVERS`); the
YAML file named by `SHUTONG_CONFIG` holds the same fields, the environment wins. Secrets are never
settings: a setting names the file that holds one. A listener that other machines can reach needs
TLS, and so does a Kafka on another machine, otherwise nothing starts.
"""

from __future__ import annotations

import os
import ssl
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.kafka_jars import Toolchain
from shutong_core.runtime.servicesettings import (
    AuditorSettings,
    BrokerSettings,
    ConsumerSettings,
    ControlSettings,
    Limits,
    Port,
    ProducerSettings,
    Section,
    WitnessSettings,
    is_loopback,
)

CONFIG_VARIABLE = "SHUTONG_CONFIG"
HostPorts = Annotated[str, Field(pattern=r"^[^\s,]+:\d{1,5}(,[^\s,]+:\d{1,5})*$")]


class KafkaSettings(Section):
    """Which Kafka, and how to prove who we are. Without `bootstrap_servers`: the embedded one."""

    bootstrap_servers: HostPorts | None = None
    tls: bool = False
    allow_plaintext: bool = False  # to a Kafka on another machine; said aloud at each start
    tls_ca: Path | None = None  # default: the system's authorities
    tls_certificate: Path | None = None  # client certificate (mTLS) and its key
    tls_key: Path | None = None
    sasl_mechanism: Literal["SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password_file: Path | None = None
    replication: Annotated[int, Field(ge=1, le=9)] = 3  # of a cluster; embedded has one copy
    min_isr: Annotated[int, Field(ge=1, le=9)] = 2
    port: Port | None = None  # of the embedded node; default: chosen once, then kept
    heap_mb: Annotated[int, Field(ge=256, le=65536)] = 512

    @property
    def embedded(self) -> bool:
        """True if the bus runs its own Kafka."""
        return self.bootstrap_servers is None

    @model_validator(mode="after")
    def _complete(self) -> KafkaSettings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        if (self.tls_ca or self.tls_certificate) and not self.tls:
            raise ValueError("tls_ca or tls_certificate is set, but tls is not: set tls")
        if (self.sasl_mechanism is None) != (self.sasl_username is None):
            raise ValueError("sasl_mechanism and sasl_username belong together")
        if (self.sasl_mechanism is None) != (self.sasl_password_file is None):
            raise ValueError("sasl_mechanism needs sasl_password_file, and the other way round")
        if self.min_isr > self.replication:
            raise ValueError("min_isr must not be larger than replication")
        if self.plaintext_to and not self.allow_plaintext:
            there = self.plaintext_to
            raise ValueError(
                f"与 {there} 的连接未加密，个人信息会明文过网：请设置 SHUTONG_KAFKA_TLS=true；"
                "确需明文请明确设置 SHUTONG_KAFKA_ALLOW_PLAINTEXT=true。"
                f" The connection to {there} would not be encrypted, records would cross the"
                " network in the clear: set SHUTONG_KAFKA_TLS=true, or say"
                " SHUTONG_KAFKA_ALLOW_PLAINTEXT=true if that is meant"
            )
        return self

    @property
    def plaintext_to(self) -> str | None:
        """The first address on another machine that is spoken to without TLS; None if none is."""
        if self.tls or self.bootstrap_servers is None:
            return None
        servers = self.bootstrap_servers.split(",")
        outside = (each for each in servers if not is_loopback(each.rpartition(":")[0]))
        return next(outside, None)

    def client_kwargs(self, bootstrap_servers: str | None = None) -> dict[str, Any]:
        """What every aiokafka client of the process takes; the argument is the embedded address.

        Raises Fatal if a certificate or password file cannot be read.
        """
        servers = self.bootstrap_servers or bootstrap_servers
        if servers is None:
            raise Fatal("no Kafka address: neither bootstrap_servers nor an embedded Kafka")
        kwargs: dict[str, Any] = {"bootstrap_servers": servers}
        try:
            if self.tls:
                kwargs["ssl_context"] = self._tls_context()
            if self.sasl_mechanism and self.sasl_password_file:
                kwargs["sasl_mechanism"] = self.sasl_mechanism
                kwargs["sasl_plain_username"] = self.sasl_username
                password = self.sasl_password_file.read_text(encoding="utf-8").rstrip("\r\n")
                kwargs["sasl_plain_password"] = password
        except (OSError, ssl.SSLError) as error:
            raise Fatal(
                "Kafka 的证书、私钥或口令文件无法读取，请检查 SHUTONG_KAFKA_TLS_* 与 SASL_*。"
                f" A certificate, key or password file for Kafka cannot be read: {error}"
            ) from error
        kwargs["security_protocol"] = ("SASL_" if self.sasl_mechanism else "") + (
            "SSL" if self.tls else "PLAINTEXT"
        )
        return kwargs

    def _tls_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.tls_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.tls_certificate:
            context.load_cert_chain(self.tls_certificate, self.tls_key)
        return context


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "shutong"


class Settings(BaseSettings):
    """All settings of one process."""

    model_config = SettingsConfigDict(
        env_prefix="SHUTONG_",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        extra="forbid",
        frozen=True,
    )

    prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,64}$")] = "shutong"
    data_dir: Path = Field(default_factory=_default_data_dir)
    keyring: Path | None = None  # default: <data_dir>/keyring
    lanes: Annotated[int, Field(ge=1, le=64)] | None = None  # at installation; default 12, or 6
    #: `own`: inbound and delivery topics are made by the operator, for what is in use.
    topics: Literal["all", "own"] = "all"
    uvloop: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    kafka: KafkaSettings = KafkaSettings()
    producer: ProducerSettings = ProducerSettings()
    broker: BrokerSettings = BrokerSettings()
    consumer: ConsumerSettings = ConsumerSettings()
    control: ControlSettings = ControlSettings()
    auditor: AuditorSettings = AuditorSettings()
    witness: WitnessSettings = WitnessSettings()
    limits: Limits = Limits()

    @property
    def keyring_dir(self) -> Path:
        """Directory of the keyring."""
        return self.keyring or self.data_dir / "keyring"

    @property
    def lanes_at_installation(self) -> int:
        """Number of lanes that a first list gets: 12, embedded 6, unless set."""
        return self.lanes or (6 if self.kafka.embedded else 12)

    @property
    def replication(self) -> tuple[int, int]:
        """(replication factor, min ISR) of topics; the embedded node has one copy."""
        return (1, 1) if self.kafka.embedded else (self.kafka.replication, self.kafka.min_isr)

    def warnings(self, *, needs_kafka: bool = True) -> tuple[str, ...]:
        """What must be said aloud at start, zh and en in one line each."""
        found = []
        if not needs_kafka:
            pass
        elif self.kafka.embedded:
            found.append(
                "内置单节点 Kafka，明文，仅限本机；不适合生产。"
                " Embedded one-node Kafka in plaintext on loopback: not for production."
            )
        elif self.kafka.plaintext_to:
            there = self.kafka.plaintext_to
            found.append(
                f"已允许明文：与 {there} 的连接未加密，请设置 SHUTONG_KAFKA_TLS=true。"
                f" Plaintext was allowed: the connection to {there} is not encrypted, set"
                " SHUTONG_KAFKA_TLS=true."
            )
        if not any(
            service.http_tls_certificate
            for service in (self.producer, self.consumer, self.control, self.auditor, self.witness)
        ):
            found.append("HTTP 接口为明文，仅监听本机。 HTTP APIs are plaintext, on loopback only.")
        return tuple(found)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' hook
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then environment, then the file that SHUTONG_CONFIG names."""
        sources = (init_settings, env_settings)
        path = os.environ.get(CONFIG_VARIABLE)
        if path:
            return (*sources, YamlConfigSettingsSource(settings_cls, yaml_file=Path(path)))
        return sources


def load_settings(**overrides: Any) -> Settings:
    """Settings from arguments, environment and file.

    Raises Fatal that lists every wrong field by its name, or if Python runs without assertions:
    aiokafka's transaction states rest on them.
    """
    if sys.flags.optimize:
        raise Fatal(
            "请去掉 python -O / PYTHONOPTIMIZE：Kafka 客户端的事务检查依赖断言。"
            " Do not run under python -O or PYTHONOPTIMIZE: the Kafka client's transaction checks"
            " are assertions."
        )
    path = os.environ.get(CONFIG_VARIABLE)
    if path and not Path(path).is_file():
        raise Fatal(f"{CONFIG_VARIABLE}={path} 不存在。 {CONFIG_VARIABLE}={path} does not exist.")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [
            f"  {'_'.join(['SHUTONG', *(str(step).upper() for step in each['loc'])])}: "
            f"{each['msg'].removeprefix('Value error, ')}"
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise Fatal("\n".join(["设置有误 Settings are wrong:", *lines])) from None


def toolchain() -> Toolchain:
    """Where the embedded Kafka's jars and Java are: XDG_CACHE_HOME, KAFKA_HOME, JAVA_HOME."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    kafka_home, java_home = os.environ.get("KAFKA_HOME"), os.environ.get("JAVA_HOME")
    return Toolchain(
        cache=Path(cache) / "shutong" / "kafka",
        kafka_home=Path(kafka_home) if kafka_home else None,
        java_home=Path(java_home) if java_home else None,
    )


def child_environment(settings: dict[str, str]) -> dict[str, str]:
    """This process's environment with `settings` (full names) put over it, for child processes."""
    return {**os.environ, **settings}
