import socket

import pytest

from gateway.http import Receive, Scope, Send
from gateway.server import HttpServer
from gateway.streaming import Closing
from rpc.addresses import BadAddress


async def nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    return


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("0.0.0.0:0", "refuses to listen on 0.0.0.0:0"),
        (":0", "refuses to listen"),
        ("[::]:0", "refuses to listen"),
        ("assent.example:0", "refuses to listen"),
        ("8080", "is not an address"),
        ("unix:/tmp/x", "HOST:PORT"),
    ],
)
def test_an_address_that_others_could_reach_or_that_is_none_is_refused(address: str, complaint: str) -> None:
    with pytest.raises(BadAddress, match=complaint):
        HttpServer(nothing, address, Closing())


def test_a_taken_port_is_a_reason_not_to_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BadAddress, match=f"cannot listen on {address}"):
            HttpServer(nothing, address, Closing())
