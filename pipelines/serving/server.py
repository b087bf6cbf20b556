"""The server: one socket on the loopback address, and an end that leaves nothing behind."""

import contextlib
import errno
import socket

from curate.corpus.errors import InputError
from pipelines.store import Store

__all__ = ["DEFAULT_PORT", "HOST", "serve"]

HOST = "127.0.0.1"  # no option: what a store holds is nobody else's business
DEFAULT_PORT = 8790
_GRACE_SECONDS = 2


def serve(uri: str, *, port: int = DEFAULT_PORT) -> None:
    """Serve a store's pages on this machine until interrupted.

    Args:
        uri: the store, which is only read.
        port: 0 for a free one.

    Raises:
        InputError: the store holds no corpus; the port is taken or not allowed.
    """
    import uvicorn

    from pipelines.console import say
    from pipelines.serving.app import make_app

    store = Store(uri)
    if not store.corpora():
        raise InputError(f"the store {uri} holds no corpus yet; `preceptor demo` makes one")
    with _bound(port) as listening:
        port = listening.getsockname()[1]
        config = uvicorn.Config(
            make_app(store, port),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            proxy_headers=False,
            ws="none",
            timeout_keep_alive=5,
            limit_concurrency=64,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        say(f"the corpora of {uri}: http://{HOST}:{port}/ (this machine only; Ctrl-C ends it)")
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn has shut down, and passes it on
            uvicorn.Server(config).run(sockets=[listening])
    say("stopped")


def _bound(port: int) -> socket.socket:
    """Return a socket that listens on the loopback address."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(64)
    except OSError as error:
        listening.close()
        told = (
            "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        )
        raise InputError(f"port {port} {told}; --port 0 picks a free one") from None
    return listening
