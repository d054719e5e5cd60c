"""Which addresses are addresses, and which of them others can reach."""

import pytest

from rpc.addresses import Address, BadAddress, parse_address, require_loopback


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:50051", Address("127.0.0.1", 50051)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:50051", Address("::1", 50051)),
        ("unix:/run/assent/grpc.sock", Address("unix:/run/assent/grpc.sock", 0)),
        ("orchestrator.internal:443", Address("orchestrator.internal", 443)),
    ],
)
def test_address_is_parsed_and_written_back_as_it_was(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


def test_empty_host_means_every_interface() -> None:
    assert str(parse_address(":50051")) == "[::]:50051"


@pytest.mark.parametrize("text", ["", "50051", "localhost", "::1:50051", "host:port", "host:65536", "host:-1", "h:²"])
def test_what_is_no_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadAddress, match="is not an address"):
        parse_address(text)


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.8.9.10:1", "[::1]:1", "localhost:1", "unix:/a"])
def test_loopback_is_allowed_without_authentication(text: str) -> None:
    require_loopback(parse_address(text), "the orchestrator")


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0:1",
        "[::]:1",
        ":1",
        "10.0.0.1:1",
        "192.168.1.1:1",
        "example.org:1",
        "localhost.example.org:1",
        "127.1:1",
    ],
)
def test_anything_others_may_reach_is_refused_without_authentication(text: str) -> None:
    with pytest.raises(BadAddress, match="the orchestrator refuses to listen on"):
        require_loopback(parse_address(text), "the orchestrator")
