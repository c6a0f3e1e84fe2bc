"""Which hosts may be fetched from: every address of a host is checked, and a checked address is dialled.

A list of forbidden names would not do: decimal addresses, wildcard DNS and rebinding all get around it. The
host is resolved once per hop, so that a name cannot change its mind between the check and the connection.
"""

import ipaddress
import socket
from functools import cache
from ssl import SSLContext

import httpx

from consumer.errors import PermanentError, TransientError
from consumer.settings import MediaSettings

MAX_REDIRECTS = 5
MAX_ADDRESSES = 4
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PORTS = {"http": 80, "https": 443}

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def new_client(settings: MediaSettings) -> httpx.Client:
    """A client that dials directly: a proxy from the environment would undo the pinned addresses."""
    timeout = httpx.Timeout(settings.read_timeout_s, connect=settings.connect_timeout_s)
    # A kept connection could be reused for another host name at the same address.
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(verify=_tls_context(), timeout=timeout, limits=limits, trust_env=False)


@cache
def _tls_context() -> SSLContext:
    return httpx.create_ssl_context()


def parse_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise PermanentError("bad_url", "the address cannot be parsed as a URL", stage="fetch") from error
    if url.scheme not in _PORTS:
        raise PermanentError("unsupported_scheme", f"{url.scheme}:// is not http or https", stage="fetch")
    if not url.host or not 0 < (url.port or _PORTS[url.scheme]) < 65536:
        raise PermanentError("bad_url", f"{display(url)} names no host and port", stage="fetch")
    return url


def display(url: httpx.URL) -> str:
    """The URL as it may stand in messages: no credentials, no query string."""
    return str(url.copy_with(username=None, password=None, query=None, fragment=None))


def get(
    client: httpx.Client, url: httpx.URL, headers: dict[str, str], *, allow_private: bool, trusted: bool
) -> httpx.Response:
    """The open, unread response to a GET, redirects followed, each hop's host checked.

    `trusted`: the host of `url` itself, but of no redirect, may be private.
    """
    for hop in range(MAX_REDIRECTS + 1):
        response = _get_from_checked_address(client, url, headers, allow_private or (trusted and hop == 0))
        if not response.has_redirect_location:
            return response
        response.close()
        url = _redirected(url, response.headers["location"])
    message = f"{display(url)}: more than {MAX_REDIRECTS} redirects"
    raise PermanentError("too_many_redirects", message, stage="fetch")


def _redirected(url: httpx.URL, location: str) -> httpx.URL:
    try:
        return parse_url(str(url.join(location)))
    except httpx.InvalidURL as error:
        raise PermanentError("bad_url", f"{display(url)} redirects to no URL", stage="fetch") from error


def _get_from_checked_address(
    client: httpx.Client, url: httpx.URL, headers: dict[str, str], allow_private: bool
) -> httpx.Response:
    failure: Exception | None = None
    for address in _checked_addresses(url, allow_private)[:MAX_ADDRESSES]:
        request = client.build_request(
            "GET",
            url.copy_with(host=address),
            headers={**headers, "Host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        try:
            return client.send(request, stream=True)
        except httpx.ReadTimeout as error:
            raise TransientError("fetch_timeout", f"{display(url)} does not answer", stage="fetch") from error
        except httpx.TransportError as error:
            failure = error
    raise TransientError("unreachable", f"{display(url)}: {failure}", stage="fetch") from failure


def _checked_addresses(url: httpx.URL, allow_private: bool) -> list[str]:
    addresses = _resolve(url)
    if not allow_private and not all(is_public(ipaddress.ip_address(address)) for address in addresses):
        message = f"{display(url)} is on a private host; media.allow_private_hosts would let it pass"
        raise PermanentError("not_permitted", message, stage="fetch")
    return addresses


def _resolve(url: httpx.URL) -> list[str]:
    port = url.port or _PORTS[url.scheme]
    try:
        found = socket.getaddrinfo(url.raw_host.decode("ascii"), port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TransientError("unreachable", f"{display(url)}: {error.strerror}", stage="fetch") from error
    except UnicodeError as error:
        raise PermanentError("bad_url", f"{display(url)} names no possible host", stage="fetch") from error
    # A zone ("fe80::1%eth0") only ever belongs to a link-local address.
    return list(dict.fromkeys(str(sockaddr[0]).partition("%")[0] for *_, sockaddr in found))


def is_public(address: IpAddress) -> bool:
    """Whether the address, or the IPv4 address that is wrapped in it, is reachable from everywhere."""
    inner = _wrapped_ipv4(address)
    if inner is not None:
        return is_public(inner)
    return address.is_global and not address.is_multicast


def _wrapped_ipv4(address: IpAddress) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside an IPv4-mapped (RFC 4291), 6to4 (RFC 3056) or NAT64 (RFC 6052) address."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
