"""HTTP clients that bypass proxies for loopback addresses, and the causes of connection errors in words.

The openai library reports every failed connection as "Connection error."; the cause is among the exceptions
that led to it.
"""

import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from undertow.errors import UserError, causes, last_line

if TYPE_CHECKING:
    from httpx2 import AsyncClient

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """The proxy of a URL.

    Attributes:
        address: host and port, without credentials.
        variable: the environment variable that names it.
    """

    address: str
    variable: str

    def __str__(self) -> str:
        return f"the proxy {self.address} ({self.variable})"


def is_loopback(host: str) -> bool:
    """Whether a host is always this machine: localhost, 127.0.0.0/8, ::1, or the unspecified address."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def proxy_of(url: str) -> Proxy | None:
    """The proxy that calls to a URL go through, by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY."""
    parts = urlsplit(url)
    if is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    for scheme in (parts.scheme, "all"):
        if given := proxies.get(scheme):
            name = f"{scheme}_proxy"
            variable = name if os.environ.get(name) else name.upper()
            address = given.partition("://")[2] or given
            return Proxy(address.rpartition("@")[2].rstrip("/"), variable)
    return None


def http_client(url: str) -> "AsyncClient":
    """An HTTP client for a URL. Raises UserError if the environment names a proxy that cannot be used."""
    from openai import DefaultAsyncHttpxClient

    if is_loopback(urlsplit(url).hostname or ""):
        # `trust_env` covers SSL_CERT_FILE as well, which the standard library's context still reads.
        return DefaultAsyncHttpxClient(trust_env=False, verify=ssl.create_default_context())
    try:
        return DefaultAsyncHttpxClient()
    except Exception as error:  # its types are those of several libraries: socksio is missing, a bad port …
        proxy = proxy_of(url)
        named = proxy.variable if proxy else "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"
        raise UserError(f"{named}: not a proxy that can be used ({last_line(error)})") from None


def cause_of(error: BaseException, url: str) -> str:
    """The cause of a connection error in words."""
    proxy = proxy_of(url)
    parts = urlsplit(url)
    server = f"{parts.hostname}:{parts.port or PORTS.get(parts.scheme, '')}"
    target = str(proxy) if proxy else server
    words, is_certain = "", False
    for cause in causes(error):
        match cause:
            case ConnectionRefusedError():
                return f"{target} refused the connection; nothing listens on this port"
            case socket.gaierror():
                host = proxy.address if proxy else parts.hostname
                of = f" of {proxy.variable}" if proxy else ""
                return f"unknown host {host!r}{of}: its name cannot be resolved ({cause.strerror})"
            case ssl.SSLCertVerificationError():
                why = getattr(cause, "verify_message", last_line(cause))
                return (
                    f"the TLS certificate of {server} is not trusted ({why}); set SSL_CERT_FILE to the "
                    "certificate of its authority"
                )
            case ssl.SSLError():
                return f"no TLS connection to {server} ({cause.reason}); does the server speak http only?"
            case OSError() if cause.errno:
                words, is_certain = f"{target}: {os.strerror(cause.errno)}", True
            case _ if type(cause).__name__ == "ConnectTimeout":
                return f"{target} did not accept a connection in time"
            case _ if type(cause).__name__ == "ProxyError":
                return f"{target} refused the connection to {server} ({last_line(cause)})"
        if not is_certain and str(cause):
            words = last_line(cause)  # the innermost message is the most specific
    return words or last_line(error)
