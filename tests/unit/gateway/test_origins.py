import pytest

from gateway.origins import require_own_origin
from rpc.problem import Problem


def scope(host: str, origin: str = "") -> dict[str, object]:
    headers = [(b"host", host.encode())]
    if origin:
        headers.append((b"origin", origin.encode()))
    return {"headers": headers}


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8080", ""),
        ("localhost:8080", ""),
        ("localhost", ""),
        ("[::1]:8080", ""),
        ("[::1]", ""),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("localhost:8080", "http://localhost:8080"),
    ],
)
def test_programs_and_own_pages_are_served(host: str, origin: str) -> None:
    require_own_origin(scope(host, origin))


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8080", "https://evil.example"),
        ("127.0.0.1:8080", "http://127.0.0.1:3000"),
        ("127.0.0.1:8080", "null"),
        # A page whose name was pointed at this machine after it was loaded.
        ("evil.example:8080", ""),
        ("evil.example:8080", "http://evil.example:8080"),
        ("10.0.0.7:8080", ""),
        ("", ""),
        ("[::1", ""),
    ],
)
def test_pages_of_other_sites_are_refused(host: str, origin: str) -> None:
    with pytest.raises(Problem, match="PERMISSION_DENIED"):
        require_own_origin(scope(host, origin))
