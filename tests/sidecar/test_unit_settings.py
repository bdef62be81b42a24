"""Settings: what is wrong stops the start, and says so."""

import pytest

from sidecar.settings import SettingsError, read_settings


def test_without_any_variable_the_defaults_stand() -> None:
    settings = read_settings({"PATH": "/bin"})
    assert (settings.port, settings.admin_port, settings.upstream_address) == (
        9180,
        9181,
        ("127.0.0.1", 8080),
    )


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("TOKEN_METER_PORT", "0", "greater than or equal to 1"),
        ("TOKEN_METER_PORT", "http", "valid integer"),
        ("TOKEN_METER_UPSTREAM", "https://127.0.0.1:1", "http://HOST:PORT"),
        ("TOKEN_METER_UPSTREAM", "http://127.0.0.1:99999", "range"),
        ("TOKEN_METER_BASE_PATH", "v1/", "begin with a slash"),
        ("TOKEN_METER_SERVER", "gpt", "'vllm'"),
        ("TOKEN_METER_HEADER_TIMEOUT", "0", "greater than 0"),
        ("TOKEN_METER_USER_HEADER", "x user", "match"),
        ("TOKEN_METER_PROT", "9180", "no such setting"),
    ],
)
def test_a_wrong_value_names_its_variable_and_the_reason(name: str, value: str, reason: str) -> None:
    with pytest.raises(SettingsError) as error:
        read_settings({name: value})
    assert name in str(error.value)
    assert reason in str(error.value)


def test_a_service_called_token_meter_does_not_set_the_port() -> None:
    assert read_settings({"TOKEN_METER_PORT": "tcp://10.0.0.1:80"}).port == 9180


@pytest.mark.parametrize(
    "name",
    ["TOKEN_METER_X_SERVICE_HOST", "TOKEN_METER_X_SERVICE_PORT_HTTP", "TOKEN_METER_X_PORT_80_TCP_ADDR"],
)
def test_the_variables_of_a_service_of_like_name_are_not_ours(name: str) -> None:
    assert read_settings({name: "10.0.0.1"}).port == 9180


def test_served_names_are_split_and_empty_values_are_unset() -> None:
    settings = read_settings({"TOKEN_METER_MODELS": "a,b", "TOKEN_METER_BASE_PATH": ""})
    assert settings.models == ("a", "b")
    assert settings.base_path is None
