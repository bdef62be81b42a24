"""The webhook's settings: read once, wrong ones named."""

from pathlib import Path

import pytest

from webhook.settings import CertMode, SettingsError, read_settings


def test_defaults_are_those_of_the_manifests(tmp_path: Path) -> None:
    settings = read_settings({"HOSTNAME": "pod-1"}, tmp_path / "none")
    assert (settings.port, settings.admin_port, settings.cert_mode) == (10250, 10251, CertMode.OWN)
    assert settings.namespace == "token-meter-system"
    assert settings.identity.startswith("pod-1_")


def test_in_a_pod_the_namespace_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("elsewhere\n")
    assert read_settings({}, tmp_path / "namespace").namespace == "elsewhere"


def test_two_lives_of_one_pod_have_two_identities() -> None:
    environ = {"HOSTNAME": "pod-1"}
    assert read_settings(environ).identity != read_settings(environ).identity


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "many", "TOKEN_METER_WEBHOOK_PORT: Input should be a valid integer"),
        ("CERT_MODE", "magic", "TOKEN_METER_WEBHOOK_CERT_MODE: Input should be 'own' or 'mounted'"),
        ("LEAF_SECONDS", "1e9", "TOKEN_METER_WEBHOOK_LEAF_SECONDS: Input should be less"),
        ("LEDGER_URL", "ledger:8080", "TOKEN_METER_WEBHOOK_LEDGER_URL: .*must be http://"),
        ("PROT", "1", "TOKEN_METER_WEBHOOK_PROT: no such setting; the settings are TOKEN_METER_WEBHOOK_HOST"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_settings({f"TOKEN_METER_WEBHOOK_{name}": value})


@pytest.mark.parametrize(
    ("given", "ledger"),
    [
        ("", "http://token-meter-ledger.token-meter-system.svc:8080"),
        ("https://openmeter.example:8888", "https://openmeter.example:8888"),
        ("off", None),
    ],
)
def test_sidecars_send_to_the_ledger_beside_us_unless_told_otherwise(given: str, ledger: str | None) -> None:
    assert read_settings({"TOKEN_METER_WEBHOOK_LEDGER_URL": given}).ledger == ledger


def test_lists_are_comma_separated() -> None:
    environ = {"TOKEN_METER_WEBHOOK_EXTRA_NAMES": "a.example,127.0.0.1,"}
    assert read_settings(environ).extra_names == ("a.example", "127.0.0.1")


def test_kubernetes_own_variables_for_the_service_are_no_settings() -> None:
    links = {
        "TOKEN_METER_WEBHOOK_SERVICE_HOST": "10.0.0.1",
        "TOKEN_METER_WEBHOOK_SERVICE_PORT": "443",
        "TOKEN_METER_WEBHOOK_SERVICE_PORT_METRICS": "10251",
        "TOKEN_METER_WEBHOOK_PORT": "tcp://10.0.0.1:443",
        "TOKEN_METER_WEBHOOK_PORT_443_TCP": "tcp://10.0.0.1:443",
        "TOKEN_METER_WEBHOOK_PORT_443_TCP_PROTO": "tcp",
    }
    assert read_settings(links).port == 10250
