"""Whoever acts is known, and needs the permission that the RPC names."""

import contextvars

import grpc
import pytest

from rpc import principal
from rpc.principal import DEVELOPER, Principal, acting_as, current_principal
from rpc.problem import Problem

READER = Principal("acme", "reader", frozenset({"session.read"}))


def test_nobody_acts_outside_a_request() -> None:
    with pytest.raises(LookupError):
        contextvars.Context().run(current_principal)


def test_background_work_acts_for_a_principal_within_a_block() -> None:
    with acting_as(READER):
        assert current_principal() is READER


def test_principal_without_the_permission_is_refused_by_its_name() -> None:
    with pytest.raises(Problem) as refused:
        principal.enter(READER, "session.write")
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED
    assert refused.value.metadata == {"permission": "session.write"}


def test_development_principal_holds_every_permission() -> None:
    def enter_with_each() -> Principal:
        for permission in principal.PERMISSIONS:
            principal.enter(principal.development_principal(()), permission)
        return current_principal()

    assert contextvars.copy_context().run(enter_with_each) is DEVELOPER
    assert (DEVELOPER.tenant, DEVELOPER.subject) == ("default", "developer")
