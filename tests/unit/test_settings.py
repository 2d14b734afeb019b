"""Settings come from SHUTONG_ variables and a file; what is unsafe does not start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.servicesettings import Listener, is_loopback
from shutong_core.runtime.settings import load_settings, toolchain


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("SHUTONG_"):
            monkeypatch.delenv(name)


def test_the_default_is_an_embedded_kafka_with_one_copy_and_six_lanes() -> None:
    settings = load_settings()
    assert settings.kafka.embedded
    assert settings.replication == (1, 1)
    assert settings.lanes_at_installation == 6
    assert settings.prefix == "shutong"


def test_a_named_cluster_gets_three_copies_and_twelve_lanes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHUTONG_KAFKA_BOOTSTRAP_SERVERS", "a:9092,b:9092")
    monkeypatch.setenv("SHUTONG_KAFKA_ALLOW_PLAINTEXT", "true")
    settings = load_settings()
    assert not settings.kafka.embedded
    assert settings.replication == (3, 2)
    assert settings.lanes_at_installation == 12
    assert settings.kafka.client_kwargs() == {
        "bootstrap_servers": "a:9092,b:9092",
        "security_protocol": "PLAINTEXT",
    }


def test_nested_names_are_split_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHUTONG_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SHUTONG_PRODUCER_HTTP_PORT", "1234")
    monkeypatch.setenv("SHUTONG_LIMITS_REQUEST_RECORDS_MAX", "7")
    settings = load_settings()
    assert settings.data_dir == tmp_path
    assert settings.keyring_dir == tmp_path / "keyring"
    assert settings.producer.http.port == 1234
    assert settings.limits.request_records_max == 7


def test_the_environment_wins_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "shutong.yaml"
    file.write_text("prefix: fromfile\nlanes: 3\n")
    monkeypatch.setenv("SHUTONG_CONFIG", str(file))
    monkeypatch.setenv("SHUTONG_PREFIX", "fromenv")
    settings = load_settings()
    assert (settings.prefix, settings.lanes) == ("fromenv", 3)


def test_an_unknown_field_of_the_file_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "shutong.yaml"
    file.write_text("kafka:\n  bootstrap_server: typo:9092\n")
    monkeypatch.setenv("SHUTONG_CONFIG", str(file))
    with pytest.raises(Fatal, match="SHUTONG_KAFKA_BOOTSTRAP_SERVER"):
        load_settings()


def test_a_missing_config_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUTONG_CONFIG", "/nowhere/shutong.yaml")
    with pytest.raises(Fatal, match="does not exist"):
        load_settings()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "bus.example"])
@pytest.mark.parametrize("which", ["HTTP", "ADMIN"])
def test_a_listener_that_others_can_reach_needs_tls(
    host: str, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SHUTONG_CONSUMER_{which}_HOST", host)
    with pytest.raises(Fatal, match="reachable from other machines"):
        load_settings()


def test_with_certificate_and_key_it_may_listen_anywhere() -> None:
    listener = Listener(
        host="0.0.0.0", port=1, tls_certificate=Path("c.pem"), tls_key=Path("k.pem")
    )
    assert listener.host == "0.0.0.0"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.0.0.9", True), ("::1", True), ("[::1]", True), ("host", False)],
)
def test_loopback_is_known_by_address(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHUTONG_KAFKA_SASL_USERNAME", "u"),
        ("SHUTONG_KAFKA_TLS_CA", "/ca.pem"),
        ("SHUTONG_KAFKA_TLS_KEY", "/k.pem"),
        ("SHUTONG_KAFKA_MIN_ISR", "5"),
        ("SHUTONG_KAFKA_BOOTSTRAP_SERVERS", "no-port"),
        ("SHUTONG_PREFIX", "a b"),
        ("SHUTONG_LANES", "65"),
    ],
)
def test_half_or_wrong_settings_are_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Fatal, match="Settings are wrong"):
        load_settings()


def test_a_password_is_read_from_its_file_and_never_shown(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("hunter2\n")
    settings = load_settings(
        kafka={
            "bootstrap_servers": "k:9093",
            "tls": True,
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": "bus",
            "sasl_password_file": password,
        }
    )
    kwargs = settings.kafka.client_kwargs()
    assert kwargs["sasl_plain_password"] == "hunter2"
    assert kwargs["security_protocol"] == "SASL_SSL"
    assert kwargs["ssl_context"].check_hostname
    assert "hunter2" not in repr(settings)


def test_a_missing_password_file_is_fatal(tmp_path: Path) -> None:
    settings = load_settings(
        kafka={
            "bootstrap_servers": "k:9093",
            "tls": True,
            "sasl_mechanism": "SCRAM-SHA-256",
            "sasl_username": "bus",
            "sasl_password_file": tmp_path / "none",
        }
    )
    with pytest.raises(Fatal, match="cannot be read"):
        settings.kafka.client_kwargs()


def test_what_is_not_encrypted_is_said_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    assert any("plaintext on loopback" in line for line in load_settings().warnings())
    monkeypatch.setenv("SHUTONG_KAFKA_BOOTSTRAP_SERVERS", "kafka.gov:9092")
    monkeypatch.setenv("SHUTONG_KAFKA_ALLOW_PLAINTEXT", "true")
    assert any("not encrypted" in line for line in load_settings().warnings())


@pytest.mark.parametrize("servers", ["kafka.gov:9092", "127.0.0.1:9092,10.0.0.7:9092"])
@pytest.mark.parametrize("sasl", [False, True])
def test_a_kafka_on_another_machine_needs_tls(servers: str, sasl: bool, tmp_path: Path) -> None:
    kafka: dict[str, object] = {"bootstrap_servers": servers}
    if sasl:  # a password does not encrypt what follows it
        kafka |= {"sasl_mechanism": "SCRAM-SHA-256", "sasl_username": "u"}
        kafka |= {"sasl_password_file": tmp_path / "p"}
    with pytest.raises(Fatal, match="SHUTONG_KAFKA_ALLOW_PLAINTEXT=true"):
        load_settings(kafka=kafka)
    assert load_settings(kafka=kafka | {"allow_plaintext": True}).kafka.plaintext_to
    assert load_settings(kafka=kafka | {"tls": True}).kafka.plaintext_to is None


def test_a_kafka_on_this_machine_needs_no_tls() -> None:
    servers = "127.0.0.1:9092,localhost:9093,[::1]:9094"
    assert load_settings(kafka={"bootstrap_servers": servers}).kafka.plaintext_to is None


def test_python_without_assertions_is_refused() -> None:
    code = "from shutong_core.runtime.settings import load_settings; load_settings()"
    done = subprocess.run(
        [sys.executable, "-O", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "python -O" in done.stderr


def test_the_toolchain_follows_the_usual_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    monkeypatch.setenv("KAFKA_HOME", "/k")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    tools = toolchain()
    assert tools.cache == Path("/c/shutong/kafka")
    assert (tools.kafka_home, tools.java_home) == (Path("/k"), None)
