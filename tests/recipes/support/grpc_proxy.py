"""A gRPC proxy that counts, and misbehaves on demand."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import grpc


class GrpcProxy(grpc.GenericRpcHandler):
    """Passes calls on to the server at `upstream`, as bytes, until told not to.

    `host` is the proxy's own address.
    """

    def __init__(self, upstream: str) -> None:
        self._channel = grpc.insecure_channel(upstream)
        self._server = grpc.server(ThreadPoolExecutor(16))
        self._server.add_generic_rpc_handlers([self])
        self.host = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self.calls: list[str] = []  # the names of the methods that were called
        self.deadlines: list[float | None] = []  # seconds that each call had left
        self.failures: list[grpc.StatusCode] = []  # of the next calls, used up
        self.damages: list[tuple[bytes, bytes]] = []  # what is replaced in answers
        self._server.start()

    def fail(self, failures: Iterable[grpc.StatusCode]) -> None:
        self.failures = list(failures)

    def close(self) -> None:
        self._server.stop(None).wait()
        self._channel.close()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self._pass_on(details.method))

    def _pass_on(self, method: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def answer(asked: bytes, context: grpc.ServicerContext) -> bytes:
            self.calls.append(method.rpartition("/")[2])
            self.deadlines.append(context.time_remaining())
            if self.failures:
                context.abort(self.failures.pop(0), "the proxy was told to")
            try:
                said: bytes = self._channel.unary_unary(method)(asked, timeout=30)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            if self.damages:
                said = said.replace(*self.damages.pop(0))
            return said

        return answer
