"""Property tests judge results, never how long they take or how long their inputs take to make."""

from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_make_parametrize_id(val: object) -> str | None:
    """A test's name is put into the environment of what it starts: long values are told by their beginning."""
    if isinstance(val, bytes | str) and len(val) > 100:
        return f"{val[:40]!r}... of {len(val)}"
    return None
