"""The charges in the database: who is next, and what became of him. Each function is one job of the Writer.

Each try begins with `charging`, committed before the call; what is found so at a start becomes `uncertain`. So no
event is ever taken twice, whatever is killed when.
"""

from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import Connection, func, select, update

from ledger.charging import Due
from ledger.tables import Charge, events

_COLUMNS = (
    events.c.seq,
    events.c.namespace,
    events.c.service,
    events.c.gateway_model,
    events.c.user,
    events.c.total_tokens,
    (events.c.time + events.c.duration_ms) / 1000,
)


def give_up(connection: Connection) -> Sequence[int]:
    """At the start: what was being charged when the ledger ended is not repeated. The tokens of each of those."""
    open_ = update(events).where(events.c.charge == Charge.CHARGING).values(charge=Charge.UNCERTAIN)
    return connection.execute(open_.returning(events.c.total_tokens)).scalars().all()


def pending(connection: Connection, after: int, most: int) -> Sequence[Due]:
    """Those that wait, the oldest first, from behind that `seq`."""
    waiting = select(*_COLUMNS).where(events.c.charge == Charge.PENDING, events.c.seq > after)
    return [Due(*row) for row in connection.execute(waiting.order_by(events.c.seq).limit(most))]


def claim(connection: Connection, seqs: Collection[int]) -> set[int]:
    """Those that this ledger, and no other one, is about to charge."""
    mine = update(events).where(events.c.seq.in_(seqs), events.c.charge == Charge.PENDING)
    return set(connection.execute(mine.values(charge=Charge.CHARGING).returning(events.c.seq)).scalars())


def settle(connection: Connection, ends: Iterable[tuple[int, Charge]]) -> None:
    """What became of those that were claimed. Another ledger that started meanwhile may have given them up."""
    by_charge: dict[Charge, list[int]] = {}
    for seq, charge in ends:
        by_charge.setdefault(charge, []).append(seq)
    for charge, seqs in by_charge.items():
        some = update(events).where(
            events.c.seq.in_(seqs), events.c.charge.in_([Charge.CHARGING, Charge.UNCERTAIN])
        )
        connection.execute(some.values(charge=charge))


def miss(connection: Connection, seqs: Collection[int]) -> set[int]:
    """Those of the waiting ones that this ledger has given up."""
    lost = update(events).where(events.c.seq.in_(seqs), events.c.charge == Charge.PENDING)
    return set(connection.execute(lost.values(charge=Charge.MISSED).returning(events.c.seq)).scalars())


def backlog(connection: Connection) -> tuple[int, int | None]:
    """How many wait, and when the oldest of them came (milliseconds since 1970)."""
    found = select(func.count(), func.min(events.c.received)).where(events.c.charge == Charge.PENDING)
    count, oldest = connection.execute(found).one()
    return count, oldest
