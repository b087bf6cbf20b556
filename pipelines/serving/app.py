"""The pages of a store: every answer is HTML made here, reads only, and is told what it may do.

Whoever can reach the loopback address can ask, also a page of another site in the same browser.
So a request must name this server as its host (a name that was rebound to 127.0.0.1 does not),
only GET and HEAD are answered, and no answer may be framed, sniffed or kept.
"""

import contextlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from curate.corpus.errors import InputError, IntegrityError
from pipelines.console import say
from pipelines.corpus import Corpus
from pipelines.serving.catalog import catalog, opened
from pipelines.store import Store

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["make_app"]

_MAX_PATH, _MAX_QUERY = 300, 2000  # bytes of a request's target
_AT_WORK, _PATIENCE_SECONDS = 2, 60  # expensive pages made at once, and how long others wait
_REPORTS, _DIFFS = 8, 8  # pages kept in memory, at most some 2 MB each
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">')
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_REFUSED = {
    400: "Not understood",
    403: "Not from there",
    404: "Not here",
    405: "Only looking",
    414: "Too long",
    421: "Another host",
    500: "Something is wrong",
    503: "Busy",
}


class _RefusedError(Exception):
    """A request that gets a page with a status of its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Kept:
    """The few pages last made, by what they show; two requests for one page make it once."""

    def __init__(self, most: int, at_work: threading.Semaphore) -> None:
        self._most, self._at_work = most, at_work
        self._pages: OrderedDict[tuple[str, ...], str] = OrderedDict()
        self._making: dict[tuple[str, ...], threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: tuple[str, ...], make: Callable[[], str]) -> str:
        """Return a page, made now unless it is there.

        Raises:
            _RefusedError: others are being made for too long.
        """
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            page = self._look(key)
            if page is None:
                with _turn(self._at_work):
                    page = make()
                self._keep(key, page)
        return page

    def _look(self, key: tuple[str, ...]) -> str | None:
        with self._lock:
            if key in self._pages:
                self._pages.move_to_end(key)
            return self._pages.get(key)

    def _keep(self, key: tuple[str, ...], page: str) -> None:
        with self._lock:
            self._pages[key] = page
            while len(self._pages) > self._most:
                self._pages.popitem(last=False)
            self._making.pop(key, None)


@contextlib.contextmanager
def _turn(at_work: threading.Semaphore) -> Iterator[None]:
    """Hold one of the few places for expensive work."""
    if not at_work.acquire(timeout=_PATIENCE_SECONDS):
        raise _RefusedError(503, "other pages are being made; try again in a minute")
    try:
        yield
    finally:
        at_work.release()


class _Pages:
    """What each address shows."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._at_work = threading.Semaphore(_AT_WORK)
        self._reports = _Kept(_REPORTS, self._at_work)
        self._diffs = _Kept(_DIFFS, self._at_work)

    def home(self, request: "Request") -> str:
        """All corpora and versions."""
        _known(request)
        return _page("serve_home.html.j2", store=self.store.uri, **catalog(self.store))

    def report(self, request: "Request") -> str:
        """A version's report."""
        from pipelines.report import build_report

        _known(request)
        corpus = self._corpus(request)
        key = (corpus.version.fingerprint, str(corpus.version))
        return self._reports.get(key, lambda: build_report(corpus).html)

    def verdicts(self, request: "Request") -> str:
        """A search over a version's verdicts."""
        from pipelines.serving.search import MAX_CANDIDATES, parse_query, search

        corpus = self._corpus(request)
        query = parse_query(_given(request))
        with _turn(self._at_work):
            found = search(corpus, query)
        counts = corpus.manifest("judge").counts
        return _page(
            "serve_search.html.j2",
            corpus=str(corpus.version),
            query=query,
            found=found,
            looked_at=MAX_CANDIDATES,
            sources=[source["name"] for source in corpus.recipe["sources"]],
            reasons=sorted(
                name.removeprefix("reason:")
                for name, count in counts.items()
                if name.startswith("reason:") and count
            ),
            link=lambda page: _link(query, page),
        )

    def why(self, request: "Request") -> str:
        """The whole life of a document."""
        from pipelines.serving.life import told

        _known(request)
        corpus = self._corpus(request)
        doc_id = request.path_params["doc_id"]
        with _turn(self._at_work), _missed():
            life = told(corpus, doc_id)
        return _page("serve_why.html.j2", corpus.unit, corpus=str(corpus.version), life=life)

    def run(self, request: "Request") -> str:
        """A training run's report, as far as the run has come."""
        from pipelines.report.run import corpus_of, render_run, run_data
        from pipelines.runs import runs_of

        _known(request)
        wanted = request.path_params["run"]
        found = next((run for run in runs_of(self.store) if run.id == wanted), None)
        if found is None:
            raise _RefusedError(404, "the store has no such run; the front page lists them")
        with _turn(self._at_work):
            corpus = corpus_of(found, self.store)
            data = run_data(found, corpus)
        address = None if corpus is None else f"/corpus/{corpus.version}/report"
        return render_run({**data, "corpus_report": address})

    def diff(self, request: "Request") -> str:
        """Two versions side by side."""
        from pipelines.diff import compare
        from pipelines.diff.page import render

        given = _known(request, "a", "b")
        a, b = (self._open(given.get(name, "")) for name in ("a", "b"))
        key = (str(a.version), a.version.fingerprint, str(b.version), b.version.fingerprint)
        return self._diffs.get(key, lambda: render(compare(a, b)))

    def _corpus(self, request: "Request") -> Corpus:
        return self._open(request.path_params["corpus"])

    def _open(self, name: str) -> Corpus:
        with _missed():
            return opened(self.store, name)


@contextlib.contextmanager
def _missed() -> Iterator[None]:
    """Turn what nobody has into a page that says so."""
    try:
        yield
    except InputError as error:
        raise _RefusedError(404, str(error)) from None


def _given(request: "Request") -> dict[str, str]:
    """Return the query's pairs; a name that is given twice is refused."""
    pairs = request.query_params.multi_items()
    if len({name for name, _ in pairs}) < len(pairs):
        raise InputError("the address gives a condition twice")
    return dict(pairs)


def _known(request: "Request", *names: str) -> dict[str, str]:
    given = _given(request)
    for name in given:
        if name not in names:
            raise InputError(f"this page knows no {name[:60]!r}")
    return given


def _link(query: Any, page: int) -> str:
    """Return the query part of the address of another page of a search."""
    from dataclasses import asdict
    from urllib.parse import urlencode

    words = {name: value for name, value in asdict(query).items() if value and name != "page"}
    return "?" + urlencode({**words, "page": page})


def _page(template: str, unit: str = "tokens", **data: Any) -> str:
    from pipelines.pages import render_page

    return render_page(template, data, "diff.css", "serve.css", unit=unit)


def make_app(store: Store, port: int) -> "Starlette":
    """Return the application that serves a store on a port of the loopback address."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.routing import Route

    pages = _Pages(store)
    routes = {
        "/": pages.home,
        "/corpus/{corpus}/report": pages.report,
        "/corpus/{corpus}/verdicts": pages.verdicts,
        "/corpus/{corpus}/why/{doc_id}": pages.why,
        "/run/{run}": pages.run,
        "/diff": pages.diff,
    }
    made = Starlette(
        routes=[
            Route(path, _endpoint(function), methods=["GET", "HEAD"])
            for path, function in routes.items()
        ],
        middleware=[Middleware(_Guard, port=port)],
        exception_handlers={404: _missing},
    )
    made.router.redirect_slashes = False
    return made


def _endpoint(function: Callable[["Request"], str]) -> Callable[["Request"], "Response"]:
    """Turn a function that returns a page into an endpoint; what goes wrong is a page as well."""
    import polars as pl

    def endpoint(request: "Request") -> "Response":
        try:
            return _answer(function(request))
        except _RefusedError as error:
            return _refusal(error.status, str(error))
        except InputError as error:
            return _refusal(400, str(error))
        except IntegrityError as error:
            return _refusal(500, str(error))
        except (Exception, pl.exceptions.PanicException) as error:
            say(f"{request.url.path}: {type(error).__name__}: {error}")
            return _refusal(500, "this page cannot be made; the terminal has the reason")

    return endpoint


def _answer(page: str, status: int = 200) -> "Response":
    """Return a page with the policy it states itself, and may not be framed."""
    from starlette.responses import HTMLResponse

    stated = _POLICY.search(page, 0, 4000)
    assert stated is not None, "every page states its policy"
    policy = f"{stated[1]}; frame-ancestors 'none'"
    return HTMLResponse(page, status, {**_HEADERS, "Content-Security-Policy": policy})


def _refusal(status: int, message: str) -> "Response":
    page = _page("serve_refusal.html.j2", title=_REFUSED[status], message=message)
    return _answer(page, status)


async def _missing(request: "Request", error: Exception) -> "Response":
    del request, error
    return _refusal(404, "there is no such page; the front page leads everywhere")


class _Guard:
    """Answers only what this server is for; everything else gets a page that says no."""

    def __init__(self, app: Any, port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        if port == 80:
            self._hosts |= {"127.0.0.1", "localhost"}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return
        refused = self._refused(scope)
        if refused is None:
            await self._app(scope, receive, send)
        else:
            await refused(scope, receive, send)

    def _refused(self, scope: Any) -> "Response | None":
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        hosts = [value.decode("latin-1").lower() for value in headers.get(b"host", [])]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return _refusal(421, "this server answers to 127.0.0.1 and localhost only")
        if scope["method"] not in ("GET", "HEAD"):
            refusal = _refusal(405, "this server only shows; it changes nothing")
            refusal.headers["Allow"] = "GET, HEAD"
            return refusal
        site = headers.get(b"sec-fetch-site", [b"none"])[0]
        mode = headers.get(b"sec-fetch-mode", [b"navigate"])[0]
        if site in (b"cross-site", b"same-site") and mode != b"navigate":
            return _refusal(403, "another site's page may lead here and not use what is here")
        path = scope.get("raw_path") or scope["path"].encode()
        if len(path) > _MAX_PATH or len(scope["query_string"]) > _MAX_QUERY:
            return _refusal(414, "no address here is that long")
        return None
