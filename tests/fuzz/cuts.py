"""Cutting an input into the pieces that a network could make of it; the same pieces for the same input."""

from zlib import crc32


def pieces(data: bytes) -> list[bytes]:
    """A byte at a time where that is cheap, else some 50 pieces."""
    size = 1 if len(data) <= 64 else crc32(data) % 13 + len(data) // 64
    return [data[at : at + size] for at in range(0, len(data), size)]
