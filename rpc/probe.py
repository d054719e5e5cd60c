"""`python -m rpc.probe HOST:PORT [--service NAME]`: exits 0 when it says SERVING; for health checks."""

import argparse
import sys

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse


def main(arguments: list[str] | None = None) -> int:
    """0 when SERVING; 1 with the reason on standard error otherwise."""
    parser = argparse.ArgumentParser(prog="rpc.probe", description="Ask a gRPC service whether it is SERVING.")
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--service", default="", help="a service's full name; the whole process by default")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds to wait for the answer")
    asked = parser.parse_args(arguments)
    with grpc.insecure_channel(asked.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        try:
            answer = check(HealthCheckRequest(service=asked.service), timeout=asked.timeout)
        except grpc.RpcError as error:
            return _not_serving(asked.address, f"{error.code().name}: {error.details()}")
    state = HealthCheckResponse.ServingStatus.Name(answer.status)
    return 0 if state == "SERVING" else _not_serving(asked.address, state)


def _not_serving(address: str, why: str) -> int:
    sys.stderr.write(f"{address} is not serving: {why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
