"""A clock that the test sets."""

from datetime import UTC, datetime, timedelta


class Clock:
    """Now, as the test has it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        """Let time pass."""
        self.now += timedelta(**by)
