"""Settings of each service: where it listens, its own bounds and switches.

A listener that other machines can reach needs TLS, otherwise nothing starts.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Port = Annotated[int, Field(ge=0, le=65535)]


def is_loopback(host: str) -> bool:
    """True for localhost and loopback addresses; any other name counts as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Section(BaseModel):
    """A group of settings: nothing unknown in it, nothing changed after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Listener(Section):
    """Where one HTTP server listens; port 0 lets the system choose (tests)."""

    host: str = "127.0.0.1"
    port: Port
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    @model_validator(mode="after")
    def _safe(self) -> Listener:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        if self.tls_certificate is None and not is_loopback(self.host):
            raise ValueError(
                f"{self.host} 可被其他机器访问，必须设置 TLS 证书与私钥，或改用 127.0.0.1。"
                f" {self.host} is reachable from other machines: set tls_certificate and tls_key,"
                " or listen on 127.0.0.1"
            )
        return self


class ServiceSettings(Section):
    """Listeners of one service: its HTTP API (where it has one) and its admin port."""

    http_host: str = "127.0.0.1"
    http_port: Port
    http_tls_certificate: Path | None = None
    http_tls_key: Path | None = None
    admin_host: str = "127.0.0.1"
    admin_port: Port
    admin_tls_certificate: Path | None = None
    admin_tls_key: Path | None = None

    @property
    def http(self) -> Listener:
        """The API's listener."""
        return Listener(
            host=self.http_host,
            port=self.http_port,
            tls_certificate=self.http_tls_certificate,
            tls_key=self.http_tls_key,
        )

    @property
    def admin(self) -> Listener:
        """The admin listener: /livez, /readyz, /metrics."""
        return Listener(
            host=self.admin_host,
            port=self.admin_port,
            tls_certificate=self.admin_tls_certificate,
            tls_key=self.admin_tls_key,
        )

    @model_validator(mode="after")
    def _check_listeners(self) -> ServiceSettings:
        # Made only to be checked: a wrong listener must be refused at start, not at first use.
        _ = (self.http, self.admin)
        return self


class ProducerSettings(ServiceSettings):
    """Producer service."""

    http_port: Port = 8801
    admin_port: Port = 9801
    ack_s: Annotated[float, Field(gt=0, le=60)] = 15.0  # for Kafka to acknowledge one write
    #: `<step>:<n>`: for tests, the process kills itself the n-th time it reaches that step.
    failpoint: Annotated[str, Field(pattern=r"^[a-z-]+:[1-9][0-9]*$")] | None = None


class ConsumerSettings(ServiceSettings):
    """Consumer service."""

    http_port: Port = 8802
    admin_port: Port = 9802


class ControlSettings(ServiceSettings):
    """Control service with the schema registry."""

    http_port: Port = 8803
    admin_port: Port = 9803


class AuditorSettings(ServiceSettings):
    """Auditor service."""

    http_port: Port = 8804
    admin_port: Port = 9804
    #: A tree that grew is signed this often; one that stands still is signed anew less often, so
    #: that its checkpoint stays fresh.
    checkpoint_every_s: Annotated[float, Field(ge=0.2, le=3600)] = 30.0
    checkpoint_idle_s: Annotated[float, Field(ge=1, le=3600)] = 600.0
    #: Each `<vkey> <url>` of a witness; a JSON list in the environment.
    witnesses: tuple[str, ...] = ()
    witnesses_needed: Annotated[int, Field(ge=0, le=16)] = 0
    #: A person's report leaves out records for these purposes, and those of the last days.
    concealed_purposes: tuple[str, ...] = ()
    report_delay_days: Annotated[int, Field(ge=0, le=3650)] = 0
    #: postgresql://user@host/database, no password in it; default: SQLite in the data directory.
    index_url: str | None = None
    index_password_file: Path | None = None
    #: `<step>:<n>`: for tests, the process kills itself the n-th time it reaches that step.
    failpoint: Annotated[str, Field(pattern=r"^[a-z-]+:[1-9][0-9]*$")] | None = None

    @model_validator(mode="after")
    def _enough_witnesses(self) -> AuditorSettings:
        if self.witnesses_needed > len(self.witnesses):
            raise ValueError("witnesses_needed must not be more than there are witnesses")
        return self


class WitnessSettings(ServiceSettings):
    """A witness: usually another organisation's, with a data directory of its own."""

    http_port: Port = 8805
    admin_port: Port = 9805
    name: Annotated[str, Field(pattern=r"^[^\s+]{1,200}$")] = "witness"
    trust: Path | None = None  # trust bundle of the bus that it witnesses


class BrokerSettings(ServiceSettings):
    """Broker service; it has no API."""

    http_port: Port = 0
    admin_port: Port = 9800
    session_timeout_ms: Annotated[int, Field(ge=6_000, le=60_000)] = 10_000
    transaction_records_max: Annotated[int, Field(ge=1, le=20_000)] = 4_000
    #: What decides runs of records: the compiled kernel where it is installed (auto), only it
    #: (native: the broker does not start without), or Python alone (pure).
    engine: Literal["auto", "native", "pure"] = "auto"
    #: `<step>:<n>`: for tests, the process kills itself the n-th time it reaches that step.
    failpoint: Annotated[str, Field(pattern=r"^[a-z-]+:[1-9][0-9]*$")] | None = None


class Limits(Section):
    """Bounds on what is taken in and how much is held."""

    record_bytes_max: Annotated[int, Field(ge=1024, le=900 * 1024)] = 900 * 1024
    request_bytes_max: Annotated[int, Field(ge=1024, le=1 << 28)] = 16 * 1024 * 1024
    request_records_max: Annotated[int, Field(ge=1, le=100_000)] = 5_000
    requests_at_once_max: Annotated[int, Field(ge=1, le=10_000)] = 64
    requests_per_second_max: Annotated[int, Field(ge=1, le=1_000_000)] = 200  # of one system
    drain_s: Annotated[float, Field(gt=0, le=300)] = 10.0
