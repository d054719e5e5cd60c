"""Who a request acts for, and what they may do.

Every request has exactly one principal, in a context variable that operations read. How a principal is
established (today: one development principal) is a function given to the server; tokens are not read here.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import grpc

from rpc.problem import Problem

PERMISSIONS = frozenset({"session.read", "session.write", "approval.decide", "run.control", "catalog.write", "admin"})

Metadata = Iterable[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class Principal:
    """The tenant and the subject a request acts for, with the permissions they hold.

    `roles` are what policies speak of: who may decide. EVERY_ROLE among them stands for all.
    """

    tenant: str
    subject: str
    permissions: frozenset[str]
    roles: frozenset[str] = frozenset()


Authenticate = Callable[[Metadata], Principal]
"""From a request's metadata to its principal; raises a Problem when it cannot say."""

EVERY_ROLE = "*"

DEVELOPER = Principal("default", "developer", PERMISSIONS, frozenset({EVERY_ROLE}))

_current: ContextVar[Principal] = ContextVar("assent_principal")


def development_principal(_metadata: Metadata) -> Principal:
    """Authenticate nobody: everyone is the developer. A server using this binds loopback only."""
    return DEVELOPER


def current_principal() -> Principal:
    """The principal of the request being served; LookupError outside any request."""
    return _current.get()


@contextmanager
def acting_as(principal: Principal) -> Iterator[None]:
    """Act for a principal outside a request: work that goes on after the call that caused it."""
    token = _current.set(principal)
    try:
        yield
    finally:
        _current.reset(token)


def enter(principal: Principal, permission: str) -> None:
    """Make it the principal of this request's task, if it holds the RPC's permission (empty: none needed)."""
    if permission and permission not in principal.permissions:
        raise Problem(
            grpc.StatusCode.PERMISSION_DENIED,
            "PERMISSION_DENIED",
            f"this needs the permission {permission}",
            metadata={"permission": permission},
        )
    _current.set(principal)
