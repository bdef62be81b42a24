"""What is kept of a damaged segment."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.segments import CLOSED, OPEN, Contents, frame, read

_IDS = st.integers(0, 5).map(lambda number: b"%032x" % number)
_RECORDS = st.lists(st.tuples(st.sampled_from([OPEN, CLOSED]), _IDS, st.binary(max_size=40)), max_size=12)
Records = list[tuple[bytes, bytes, bytes]]


def contents(records: Records) -> Contents:
    """What these records say, in order: an event that was closed stays so."""
    found = Contents()
    for kind, event_id, event in records:
        if kind == CLOSED:
            found.closed[event_id] = event
            found.open.pop(event_id, None)
        elif event_id not in found.closed:
            found.open[event_id] = event
    return found


@given(_RECORDS)
def test_what_was_written_is_read(records: Records) -> None:
    assert read(b"".join(frame(*record) for record in records)) == contents(records)


@given(_RECORDS.filter(bool), st.data())
def test_a_file_cut_anywhere_keeps_every_record_before_the_cut(records: Records, data: st.DataObject) -> None:
    # Events as they are, JSON in one line.
    frames = [frame(kind, event_id, event.hex().encode()) for kind, event_id, event in records]
    whole = b"".join(frames)
    cut = data.draw(st.integers(0, len(whole)))
    kept, size = 0, 0
    while kept < len(frames) and size + len(frames[kept]) - 1 <= cut:  # its newline is no part of a record
        size += len(frames[kept])
        kept += 1
    expected = contents([(kind, id_, event.hex().encode()) for kind, id_, event in records[:kept]])
    expected.torn = cut > size
    assert read(whole[:cut]) == expected


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=8), st.data())
def test_a_flipped_bit_costs_its_own_record_alone_and_is_counted(
    events: list[bytes], data: st.DataObject
) -> None:
    records = [(CLOSED, b"%032x" % number, event.hex().encode()) for number, event in enumerate(events)]
    frames = [frame(*record) for record in records]
    hit = data.draw(st.integers(0, len(frames) - 1))
    bit = data.draw(st.integers(0, 8 * len(frames[hit]) - 1))
    damaged = bytearray(frames[hit])
    damaged[bit // 8] ^= 1 << bit % 8
    found = read(b"".join(frames[:hit]) + bytes(damaged) + b"".join(frames[hit + 1 :]))
    lost = {event_id: event for _, event_id, event in records if found.closed.get(event_id) != event}
    assert set(lost) <= {records[hit][1]}
    if lost:
        assert found.unreadable + found.torn >= 1


def test_a_last_record_whose_length_is_damaged_is_not_taken_for_whole() -> None:
    """Found by fuzzing: behind it there would have been nothing, and then something."""
    damaged = frame(CLOSED, b"0" * 32, b"{}")[:-1].replace(b" 00000023 ", b" 00000024 ")
    assert b" 00000024 " in damaged
    assert read(damaged) == Contents(torn=True)
