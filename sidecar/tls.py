"""TLS on the data port: a certificate and its key from files, read again when they change, no connection lost."""

import ssl
from pathlib import Path

CERTIFICATE, KEY = "tls.crt", "tls.key"
Stamp = tuple[int, int, int]


class Certificate:
    """The context that new connections are served with. Until the files are there no handshake succeeds.

    A Secret's volume swaps both files at once; what cannot be read (half a pair, garbage) leaves the last good one.
    """

    def __init__(self, folder: Path) -> None:
        self._files = folder / CERTIFICATE, folder / KEY
        self._stamps: tuple[Stamp, ...] | None = None
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.problem = (
            f"there is no certificate in {folder} yet; it comes with the Secret of token-meter's controller"
        )
        self.look()

    @property
    def loaded(self) -> bool:
        """Whether there is one to serve with."""
        return not self.problem

    def look(self) -> None:
        """Take the files where they have changed; `problem` says why there is none to serve with."""
        try:
            stamps = tuple(map(_stamp, self._files))
            if stamps == self._stamps:
                return
            # A context of its own first: a pair that does not fit must not spoil the one that is served.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._files)
            self.context.load_cert_chain(*self._files)
        except FileNotFoundError:
            return
        except (OSError, ssl.SSLError) as error:
            if self._stamps is None:
                self.problem = f"the certificate {self._files[0]} cannot be used: {error}"
            return
        self._stamps = stamps
        self.problem = ""


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size
