"""Addresses a service listens on or connects to: parsing them, and telling which stay on this machine."""

import ipaddress
from dataclasses import dataclass

_UNIX = "unix:"


class BadAddress(ValueError):
    """An address that is not `host:port`, `[ipv6]:port` or `unix:path`, or may not be used here."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service listens; `host` is the whole `unix:path` for a socket file, whose port is 0."""

    host: str
    port: int

    def __str__(self) -> str:
        if self.host.startswith(_UNIX):
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it; a name other than localhost counts as reachable."""
        if self.host.startswith(_UNIX) or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """Parse `host:port`, `[ipv6]:port` or `unix:path`; an empty host (`:50051`) means every interface."""
    if text.startswith(_UNIX):
        return Address(text, 0)
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise BadAddress(f"{text!r} is not an address: write an IPv6 host in brackets, as in [::1]:50051")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise BadAddress(f"{text!r} is not an address: expected HOST:PORT or unix:PATH")
    return Address(host or "::", int(port))


def require_loopback(address: Address, what: str) -> None:
    """Refuse an address that others can reach: without authentication anybody there could do anything."""
    if not address.is_loopback:
        raise BadAddress(
            f"{what} refuses to listen on {address}: requests are not authenticated in development mode, "
            "so it binds loopback only (127.0.0.0/8, ::1, localhost or unix:)"
        )
