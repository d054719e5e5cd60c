"""Keeps other web pages out: a browser on this machine reaches a loopback address for any page it shows.

While nobody is authenticated, that would let every page act as the developer. Whom a token speaks for is not
decided here.
"""

from gateway.errors import forbidden
from gateway.http import Scope, header
from rpc.addresses import BadAddress, parse_address

_HTTP_PORT = ":80"


def require_own_origin(scope: Scope) -> None:
    """Refuse what another site's page sends, and (a page that renamed itself) what names a foreign host."""
    host = header(scope, b"host")
    if not _is_loopback(host):
        raise forbidden(
            "the Host header does not name this machine: without authentication the gateway answers loopback "
            "names only, such as localhost"
        )
    origin = header(scope, b"origin")
    if origin and origin.partition("://")[2] != host:
        raise forbidden("a page of another origin may not use this gateway")


def _is_loopback(host: str) -> bool:
    try:
        return parse_address(host if _has_port(host) else host + _HTTP_PORT).is_loopback
    except BadAddress:
        return False


def _has_port(host: str) -> bool:
    return ":" in host.rpartition("]")[2]
