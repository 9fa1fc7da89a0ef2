"""Asking a gateway how its models are, by the standard health service."""

import time
from collections.abc import Callable

import grpc

from kandinsky.wire.errors import KandinskyError, from_rpc_error

UNREACHABLE = "UNREACHABLE"


class AnotherServer(RuntimeError):
    """What answers at an address is no gateway; the message is one sentence."""


def status(address: str, model: str, *, timeout: float = 5) -> str:
    """`SERVING`, `NOT_SERVING`, or `UNREACHABLE` where nobody answers within `timeout` seconds.

    Raises:
        KandinskyError: the server knows no such model.
        AnotherServer: the server has no health service.
        ImportError: the extra `gateway`, which brings the health service, is not installed.
    """
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=model), timeout=timeout)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                return UNREACHABLE
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                sentence = f"another server answers at {address}: it has no health service"
                raise AnotherServer(sentence) from error
            known: KandinskyError = from_rpc_error(error)
            raise known from error
        name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        return name


def wait_until_serving(
    address: str, model: str, is_alive: Callable[[], bool], seconds: float = 60
) -> bool:
    """Whether the model came to SERVING in time, and while `is_alive`.

    Raises:
        AnotherServer: somebody else has taken the address.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end and is_alive():
        if status(address, model) == "SERVING":
            return True
        time.sleep(0.2)
    return False
