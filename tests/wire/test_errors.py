"""Domain errors to statuses and back, alone and through a real gRPC server."""

import base64
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from urllib.parse import quote

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from hypothesis import given, settings
from hypothesis import strategies as st

from kandinsky.v1 import error_reason_pb2
from kandinsky.wire import errors
from kandinsky.wire.errors import STATUS_CODES, KandinskyError, Reason, Violation

PREFIX = "ERROR_REASON_"
METHOD = "/test.Service/Fail"

some_errors = st.builds(
    KandinskyError,
    st.sampled_from(Reason),
    st.text(max_size=60),
    violations=st.lists(
        st.builds(Violation, st.text(max_size=20), st.text(max_size=40)), max_size=4
    ),
    retry_after=st.none() | st.integers(0, 10**12).map(lambda milliseconds: milliseconds / 1000),
    metadata=st.dictionaries(st.text(min_size=1, max_size=10), st.text(max_size=20), max_size=3),
)


def assert_same(found: KandinskyError | None, wanted: KandinskyError) -> None:
    assert found is not None
    assert found.reason is wanted.reason
    assert found.message == str(found) == wanted.message
    assert found.violations == wanted.violations
    assert found.metadata == wanted.metadata
    assert found.retry_after == pytest.approx(wanted.retry_after, abs=1e-9)


class Failing:
    """Answers every call by what `fail` does, and keeps the transport out of the way."""

    def __init__(self) -> None:
        self.fail = lambda context: None

    def __call__(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.fail(context)
        return b""


@contextmanager
def _served(failing: Failing) -> Iterator[grpc.Channel]:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    handlers = {"Fail": grpc.unary_unary_rpc_method_handler(failing)}
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("test.Service", handlers)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        server.stop(None).wait()


@pytest.fixture(scope="module")
def call():
    """`call(fail)` is the RpcError that a client gets from a server that does `fail(context)`."""
    failing = Failing()
    with _served(failing) as channel:

        def fetch(fail, timeout: float = 30) -> grpc.RpcError:
            failing.fail = fail
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(METHOD)(b"", timeout=timeout)
            return caught.value

        yield fetch


def sends(error: KandinskyError):
    status = rpc_status.to_status(errors.to_status(error))
    return lambda context: context.abort_with_status(status)


def test_every_reason_has_a_status_code():
    assert set(STATUS_CODES) == set(Reason)
    assert grpc.StatusCode.OK not in STATUS_CODES.values()
    for reason, code in STATUS_CODES.items():
        assert KandinskyError(reason, "").code is code


def test_reasons_are_those_of_the_contract():
    in_contract = {name.removeprefix(PREFIX) for name in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118
    assert in_contract == {"UNSPECIFIED", *Reason}
    assert set(Reason.__members__) == set(Reason)


def test_status_codes_are_those_that_the_contract_s_comments_name(request):
    proto = request.config.rootpath / "protos/kandinsky/v1/error_reason.proto"
    comment, named = "", {}
    for line in proto.read_text().splitlines():
        text = line.strip()
        if text.startswith("//"):
            comment += text.removeprefix("//").strip() + " "
            continue
        if text.startswith(PREFIX):
            named[text.split()[0].removeprefix(PREFIX)] = comment.split(".")[0]
        comment = ""
    del named["UNSPECIFIED"]
    assert named == {reason.value: code.name for reason, code in STATUS_CODES.items()}


@given(some_errors)
def test_round_trip(error):
    status = status_pb2.Status.FromString(errors.to_status(error).SerializeToString())
    assert_same(errors.from_status(status), error)
    assert status.code == STATUS_CODES[error.reason].value[0]


def test_details_are_there_only_where_they_say_something():
    def kinds(error):
        return [detail.type_url.split(".")[-1] for detail in errors.to_status(error).details]

    assert kinds(KandinskyError(Reason.INTERNAL, "m")) == ["ErrorInfo"]
    assert kinds(errors.invalid("a", "b")) == ["ErrorInfo", "BadRequest"]
    assert kinds(KandinskyError(Reason.OVERLOADED, "m", retry_after=0)) == [
        "ErrorInfo",
        "RetryInfo",
    ]


def _status_with(*details) -> status_pb2.Status:
    status = status_pb2.Status(code=3, message="m")
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


@pytest.mark.parametrize(
    "details",
    [
        [],
        [error_details_pb2.ErrorInfo(reason="INVALID_FIELD", domain="googleapis.com")],
        [error_details_pb2.ErrorInfo(reason="INVALID_FIELD")],
        [error_details_pb2.ErrorInfo(reason="NO_SUCH_REASON", domain=errors.DOMAIN)],
        [error_details_pb2.ErrorInfo(reason="UNSPECIFIED", domain=errors.DOMAIN)],
        [error_details_pb2.BadRequest()],
    ],
    ids=["bare", "other domain", "no domain", "unknown reason", "unspecified", "no info"],
)
def test_a_status_of_someone_else_is_none_of_ours(details):
    assert errors.from_status(_status_with(*details)) is None


@pytest.mark.parametrize("kind", ["ErrorInfo", "BadRequest", "RetryInfo"])
def test_a_status_with_a_broken_detail_is_none_of_ours(kind):
    status = errors.to_status(KandinskyError(Reason.DRAINING, "m"))
    status.details.add(type_url=f"type.googleapis.com/google.rpc.{kind}", value=b"\xff\xff\xff")
    assert errors.from_status(status) is None


def test_details_of_unknown_types_are_passed_over():
    info = error_details_pb2.ErrorInfo(reason="DRAINING", domain=errors.DOMAIN)
    status = _status_with(error_details_pb2.Help(), info, error_details_pb2.LocalizedMessage())
    found = errors.from_status(status)
    assert found is not None
    assert found.reason is Reason.DRAINING


def test_invalid_names_its_field():
    error = errors.invalid("settings.height", "520 is no multiple of 64")
    assert error.reason is Reason.INVALID_FIELD
    assert error.message == "settings.height: 520 is no multiple of 64"
    assert error.violations == (Violation("settings.height", "520 is no multiple of 64"),)


def test_invalid_fields_names_all_of_them():
    error = errors.invalid_fields([Violation("a", "is b"), Violation("", "is empty")])
    assert error.message == "a: is b; is empty"
    assert [violation.field for violation in error.violations] == ["a", ""]


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_arrives_at_a_client(call, reason):
    error = KandinskyError(
        reason,
        "eine Nachricht: 100 % ждёт",
        violations=[Violation("prompts[2]", "is empty")],
        retry_after=1.5,
        metadata={"model": "any", "served": "none"},
    )
    received = call(sends(error))
    assert received.code() is STATUS_CODES[reason]
    assert errors.carries_reason(received)
    assert_same(errors.from_rpc_error(received), error)


@settings(max_examples=60)
@given(error=some_errors)
def test_any_error_arrives_at_a_client(call, error):
    received = call(sends(error))
    assert errors.carries_reason(received)
    assert_same(errors.from_rpc_error(received), error)


@pytest.mark.parametrize("text", ["a", "%", "ж", "画", "🟥"])
@pytest.mark.parametrize("reason", [Reason.INVALID_FIELD, Reason.MODEL_NOT_FOUND])
def test_an_error_that_repeats_a_huge_input_still_arrives(call, reason, text):
    """gRPC drops trailers over 8 KiB, and the client would learn to come back later."""
    huge = text * 100_000
    error = KandinskyError(
        reason,
        huge,
        violations=[Violation(f"prompts[{i}]", huge) for i in range(1000)],
        retry_after=1,
        metadata={"model": huge, "served": huge},
    )
    status = rpc_status.to_status(errors.to_status(error))
    binary = dict(status.trailing_metadata)["grpc-status-details-bin"]
    assert len(quote(status.details)) + len(base64.b64encode(binary)) < 8000
    found = errors.from_rpc_error(call(sends(error)))
    assert found.reason is reason
    assert found.message.startswith(text * 50)
    assert found.message.endswith("…")
    assert found.violations[0].field == "prompts[0]"
    assert found.violations[0].description.startswith(text * 50)


def test_many_violations_arrive_as_the_first_of_them(call):
    error = errors.invalid_fields([Violation(f"prompts[{i}]", "is empty") for i in range(1000)])
    found = errors.from_rpc_error(call(sends(error)))
    assert found.reason is Reason.INVALID_FIELD
    assert 20 < len(found.violations) < 1000
    assert found.violations == error.violations[: len(found.violations)]


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0] != 0])
def test_a_bare_code_is_given_a_reason(call, code):
    received = call(lambda context: context.abort(code, "from the transport"))
    assert not errors.carries_reason(received)
    found = errors.from_rpc_error(received)
    assert found.reason is errors.FROM_BARE_CODE.get(code, Reason.INTERNAL)
    assert found.message == "from the transport"
    assert (found.violations, found.retry_after, found.metadata) == ((), None, {})


def test_a_bare_code_keeps_its_code_where_a_reason_has_it():
    for code, reason in errors.FROM_BARE_CODE.items():
        assert STATUS_CODES[reason] is code


def test_a_bare_code_without_details_is_named_by_its_code(call):
    received = call(lambda context: context.abort(grpc.StatusCode.ABORTED, ""))
    assert errors.from_rpc_error(received).message == "ABORTED"


def test_details_that_contradict_the_call_count_as_bare(call):
    status = errors.to_status(KandinskyError(Reason.INVALID_FIELD, "one message"))

    def fail(context):
        context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
        context.abort(grpc.StatusCode.UNAVAILABLE, "another message")

    received = call(fail)
    assert not errors.carries_reason(received)
    assert errors.from_rpc_error(received).reason is Reason.STAGE_UNAVAILABLE


def test_details_that_are_no_status_count_as_bare(call):
    def fail(context):
        context.set_trailing_metadata([("grpc-status-details-bin", b"\xff\xff\xff")])
        context.abort(grpc.StatusCode.INTERNAL, "broken")

    received = call(fail)
    assert not errors.carries_reason(received)
    assert errors.from_rpc_error(received).reason is Reason.INTERNAL


def test_an_exception_of_the_server_is_internal(call):
    def fail(context):
        raise RuntimeError("a traceback is not for clients")

    assert errors.from_rpc_error(call(fail)).reason is Reason.INTERNAL


def test_a_deadline_that_passes_is_a_deadline(call):
    received = call(_wait_for_the_end_of, timeout=0.05)
    assert errors.from_rpc_error(received).reason is Reason.DEADLINE_EXCEEDED


def _wait_for_the_end_of(context: grpc.ServicerContext) -> None:
    ended = threading.Event()
    if context.add_callback(ended.set):
        assert ended.wait(30)


def test_no_server_is_an_unavailable_stage():
    with _served(Failing()) as channel, pytest.raises(grpc.RpcError) as unknown:
        channel.unary_unary("/test.Service/Nothing")(b"", timeout=30)
    assert errors.from_rpc_error(unknown.value).reason is Reason.FLOW_UNSUPPORTED
    with grpc.insecure_channel("unix:/nowhere/at/all") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(METHOD)(b"", timeout=30)
        assert errors.from_rpc_error(caught.value).reason is Reason.STAGE_UNAVAILABLE
