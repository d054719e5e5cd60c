"""Whoever acts is known, and needs the permission that the RPC names."""

import contextvars

import grpc
import pytest

from rpc import principal
from rpc.principal import (
    DEVELOPER,
    EVERY_ROLE,
    PERMISSIONS,
    Principal,
    acting_as,
    current_principal,
    development_principal,
)
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


def test_a_caller_who_says_nothing_is_the_developer_with_every_role() -> None:
    assert development_principal((("authorization", "x"), ("user-agent", "y"))) is DEVELOPER
    assert DEVELOPER.roles == {EVERY_ROLE}


@pytest.mark.parametrize(
    ("said", "subject", "roles"),
    [
        ({"assent-subject": "ann"}, "ann", set()),
        ({"assent-subject": "ann lee", "assent-roles": "lead"}, "ann lee", {"lead"}),
        ({"assent-subject": "ann@example.com", "assent-roles": "lead, release-manager"}, "ann@example.com", None),
        ({"assent-roles": "lead"}, "developer", {"lead"}),
        ({"assent-subject": "ann", "assent-roles": ""}, "ann", set()),
        ({"assent-subject": "engineer", "assent-roles": "*"}, "engineer", {"*"}),
        ({"assent-subject": "x" * 128, "assent-roles": "r" * 64}, "x" * 128, {"r" * 64}),
    ],
)
def test_who_names_themselves_holds_the_roles_they_name_and_no_others(
    said: dict[str, str], subject: str, roles: set[str] | None
) -> None:
    who = development_principal(said.items())
    assert who == Principal("default", subject, PERMISSIONS, who.roles)
    assert who.roles == ({"lead", "release-manager"} if roles is None else roles)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("assent-subject", bad) for bad in ("", " ann", "ann ", "engine", "x" * 129, "a\nb", "a\x7fb", "änn")),
        *(("assent-roles", bad) for bad in (",", "lead,", "a b", "-lead", "r" * 65, "l\u0435ad", "a;b")),
        ("assent-roles", ",".join(f"r{number}" for number in range(33))),
    ],
)
def test_a_name_or_a_role_that_does_not_do_is_refused_by_its_key(key: str, value: str) -> None:
    with pytest.raises(Problem) as refused:
        development_principal([(key, value)])
    assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert [field.field for field in refused.value.fields] == [key]


@pytest.mark.parametrize("key", ["assent-subject", "assent-roles"])
def test_nobody_chooses_between_two_names(key: str) -> None:
    with pytest.raises(Problem, match="must be given once"):
        development_principal([(key, "ann"), (key, "boris")])
