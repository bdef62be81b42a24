"""How fast the server writes, by what it has completed: the only guess at an answer that nobody waited for."""

from sidecar.record import CountedBy, Outcome, Record

_MOST_MODELS = 64
# The weight of the newest request in the average.
_NEWEST = 0.2


class Rates:
    """Output tokens a second of a request, by model; waiting and reading the prompt are part of its time."""

    def __init__(self) -> None:
        self._rates: dict[str, float] = {}

    def observe(self, record: Record) -> None:
        """A request has ended; it tells something if it is complete and the server counted it."""
        seconds = record.ended - record.sent
        if (
            record.outcome is not Outcome.COMPLETED
            or record.counted_by is not CountedBy.SERVER
            or not record.usage.output
            or not record.sent
            or seconds <= 0
        ):
            return
        rate = record.usage.output / seconds
        before = self._rates.get(record.model)
        if before is None and len(self._rates) >= _MOST_MODELS:
            return
        self._rates[record.model] = rate if before is None else before + _NEWEST * (rate - before)

    def output(self, model: str, seconds: float, most: int | None) -> int:
        """Tokens made in this time, no more than the request allows; 0 where nothing is known of the model."""
        made = int(self._rates.get(model, 0.0) * max(seconds, 0.0))
        return made if most is None else min(made, most)
