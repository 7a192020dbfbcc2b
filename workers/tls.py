"""Mutual TLS between service, scheduler and workers.

Dask trusts whoever shows a certificate that the private CA signed, and runs the code it is sent; it
does not look at host names. So the key of the CA is worth as much as all machines together, and so
is each of the keys it signed.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from distributed.security import Security

from workers.errors import ClusterUnavailableError

_HANDSHAKE_SECONDS = 5.0


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: the certificate of the CA, and of this process with its key."""

    ca: Path
    cert: Path
    key: Path

    def security(self) -> Security:
        """For a Dask client; it speaks to nobody without encryption."""
        return Security(
            tls_ca_file=str(self.ca),
            tls_client_cert=str(self.cert),
            tls_client_key=str(self.key),
            require_encryption=True,
        )

    def options(self) -> list[str]:
        """For the commands `dask scheduler` and `dask worker`."""
        return [
            *("--tls-ca-file", str(self.ca)),
            *("--tls-cert", str(self.cert)),
            *("--tls-key", str(self.key)),
        ]


def tls_fault(error: BaseException | None) -> str | None:
    """What TLS had against a connection, in OpenSSL's words, if an error came from that."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return getattr(error, "verify_message", None) or error.reason or str(error)
        error = error.__cause__ or error.__context__
    return None


def shake_hands(address: str, files: TlsFiles) -> str:
    """Connect to a scheduler at tls://HOST:PORT as this process would; what was agreed on.

    Raises ClusterUnavailableError with the reason.
    """
    url = urlsplit(address)
    try:
        # As Dask does it: the CA decides, host names do not.
        context = ssl.create_default_context(cafile=files.ca)
        context.check_hostname = False
        context.load_cert_chain(files.cert, files.key)
        with (
            socket.create_connection((url.hostname, url.port), _HANDSHAKE_SECONDS) as plain,
            context.wrap_socket(plain) as tls,
        ):
            # In TLS 1.3 the other side's refusal arrives only with what it sends first.
            if not tls.recv(1):
                raise ConnectionResetError("the scheduler closed the connection")
            return f"{tls.version()} with {address}"
    except (OSError, ValueError) as error:
        reason = tls_fault(error) or error
        raise ClusterUnavailableError(
            f"{address} and {files.cert} do not come together: {reason}.",
            advice="Both sides need certificates of one CA that have not expired (gramian certs).",
        ) from error
