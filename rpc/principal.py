"""Who a request acts for, and what they may do.

Every request has exactly one principal, in a context variable that operations read. How a principal is
established (today: whoever the caller says, on this machine only) is a function given to the server; tokens are not
read here.
"""

import re
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


SUBJECT_KEY = "assent-subject"
ROLES_KEY = "assent-roles"
MOST_ROLES = 32
# Nobody else's name: "engine" is who acts in the log where no person does.
_SUBJECT = re.compile(r"(?!engine$)[!-~]([ -~]{0,126}[!-~])?")
_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}|\*")


def development_principal(metadata: Metadata) -> Principal:
    """Authenticate nobody: callers are who they say, and without a word the developer with every role.

    Who names themselves, or their roles, holds the roles they name and no others. A server using this binds loopback
    only. A Problem where what they say does not do.
    """
    subject, roles = (_said(metadata, key) for key in (SUBJECT_KEY, ROLES_KEY))
    if subject is None and roles is None:
        return DEVELOPER
    if subject is not None and not _SUBJECT.fullmatch(subject):
        raise _unusable(SUBJECT_KEY, "must be a name of 1 to 128 printable ASCII characters, and not engine")
    named = frozenset(role.strip() for role in roles.split(",")) if roles else frozenset[str]()
    if len(named) > MOST_ROLES or not all(_ROLE.fullmatch(role) for role in named):
        raise _unusable(ROLES_KEY, f"must be up to {MOST_ROLES} roles such as release-manager, with commas between")
    return Principal(DEVELOPER.tenant, subject or DEVELOPER.subject, PERMISSIONS, named)


def _said(metadata: Metadata, key: str) -> str | None:
    """None: nothing. Twice is not for us to choose from."""
    values = [value for name, value in metadata if name == key]
    if len(values) > 1:
        raise _unusable(key, "must be given once")
    return str(values[0]) if values else None


def _unusable(key: str, description: str) -> Problem:
    return Problem(
        grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", f"{key} {description}", fields=[(key, description)]
    )


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
