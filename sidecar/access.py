"""Who is asking: the gateway with its key, or somebody at the door."""

import hmac
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from time import monotonic

from sidecar.errors import Refusal
from sidecar.messages import RequestHead

# Headers that AI Gateway 1.1 sets itself, over whatever its client sent (internal/extproc/processor_impl.go).
_GATEWAY_HEADERS = (b"x-ai-eg-model", b"x-ai-eg-original-path", b"x-ai-eg-internal-req-id")
_RELOAD_SECONDS = 1.0
_OTHERS = ("nextApiKey", "previousApiKey")


class Channel(StrEnum):
    """The way a request came."""

    GATEWAY = "gateway"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Caller:
    """Channel of a request; its user and the model's name at the gateway where they can be trusted."""

    channel: Channel
    user: str | None = None
    gateway_model: str | None = None


class KeyFile:
    """The API keys in a file, one a line, and in those of a rotation beside it; read again when they change (a Secret's
    volume swaps them under us)."""

    def __init__(self, path: Path) -> None:
        self._paths = (path, *(path.with_name(name) for name in _OTHERS))
        self._keys: tuple[bytes, ...] = ()
        self._stamps: list[tuple[int, int, int] | None] = []
        self._next_look = 0.0

    def keys(self, now: float) -> tuple[bytes, ...]:
        """The keys in force; none while the file is not there. Looks at the file once a second at most."""
        if now >= self._next_look:
            self._next_look = now + _RELOAD_SECONDS
            self._look()
        return self._keys

    def reload(self, now: float) -> tuple[bytes, ...]:
        """The keys in force after a key that did not fit; a look now, if the last was not just before."""
        if now >= self._next_look - _RELOAD_SECONDS * 0.8:
            self._next_look = 0.0
        return self.keys(now)

    def _look(self) -> None:
        stamps = [_stamp(path) for path in self._paths]
        if stamps != self._stamps:
            self._keys = tuple(key for path in self._paths for key in _read(path)) if stamps[0] else ()
            self._stamps = stamps


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _read(path: Path) -> list[bytes]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:  # gone since
        return []
    return [line.strip() for line in lines if line.strip()]


class Access:
    """Judges metered requests. Without a key file everyone may call, and nobody's identity is trusted."""

    def __init__(self, key_file: Path | None, user_header: str, gateway: str) -> None:
        self._keys = KeyFile(key_file) if key_file else None
        self._key_path = key_file
        self._user_header = user_header.lower().encode()
        self._gateway = gateway

    @property
    def guarded(self) -> bool:
        """Whether a key is asked for; then it is not passed on to the model."""
        return self._keys is not None

    def carries_key(self, head: RequestHead) -> bool:
        """Whether the request has one of our keys with it, which must not be passed on."""
        return self._keys is not None and _matches(_bearer(head), self._keys.keys(monotonic()))

    def admit(self, head: RequestHead, now: float) -> Caller:
        """The caller; a Refusal: 401 without the right key, 503 while there is no key to compare with."""
        if self._keys is None:
            through = any(head.get(name) is not None for name in _GATEWAY_HEADERS)
            return Caller(Channel.GATEWAY if through else Channel.DIRECT)
        keys = self._keys.keys(now) or self._keys.reload(now)
        if not keys:
            raise Refusal(
                503,
                "service_unavailable",
                f"The API key of this model is not there yet ({self._key_path}); it comes with the Secret that "
                "token-meter's controller makes. Try again in a few seconds.",
                code="api_key_missing",
                retry_after=5,
            )
        given = _bearer(head)
        if not _matches(given, keys) and not _matches(given, self._keys.reload(now)):
            raise Refusal(401, "authentication_error", self._refused(given), code="invalid_api_key")
        user, model = head.get(self._user_header), head.get(_GATEWAY_HEADERS[0])
        return Caller(
            Channel.GATEWAY,
            user.decode("latin-1") if user else None,
            model.decode("latin-1") if model else None,
        )

    def _refused(self, given: bytes | None) -> str:
        where = f" {self._gateway}" if self._gateway else ""
        what = "Incorrect API key." if given is not None else "No API key was given."
        return (
            f"{what} This model is served through the gateway{where}: send the request there. What calls it inside the"
            " cluster without a key (an InferenceGraph) needs token-meter.dev/access: open on the InferenceService."
        )


def _bearer(head: RequestHead) -> bytes | None:
    value = head.get(b"authorization")
    if value is None or value[:7].lower() != b"bearer ":
        return None
    return value[7:].strip()


def _matches(given: bytes | None, keys: tuple[bytes, ...]) -> bool:
    if given is None:
        return False
    # Every key is compared, so that the time tells nothing.
    return sum(hmac.compare_digest(given, key) for key in keys) > 0
