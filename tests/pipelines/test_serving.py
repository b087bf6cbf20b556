"""A store in a local page: it shows what is there, to this machine alone, and changes nothing."""

import contextlib
import html
import re
import shutil
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

import pipelines.report
from curate.corpus.errors import InputError
from pipelines.corpus import Corpus, open_corpus
from pipelines.serving.app import make_app
from pipelines.serving.search import PAGE, Query, parse_query, search
from pipelines.serving.server import HOST, _bound, serve
from pipelines.store import Store

HOSTILE = "</style><script>alert('x')</script> \x1b[31m \u202eevil {{ 7 * 7 }} "
PORT = 8790


@pytest.fixture(scope="module")
def store(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions with hostile text, keys and addresses, and redacted e-mail addresses."""
    folder = tmp_path_factory.mktemp("serving")
    rows = [{"id": f"n{i}", "url": f"https://site.org/{i}", "text": lab.text(i)} for i in range(60)]
    rows += [{"id": f"copy {i}", "url": None, "text": lab.text(i)} for i in range(3)]
    rows += [{"id": f"near {i}", "url": None, "text": lab.near(i)} for i in range(3, 5)]
    evil = "<img src=x onerror=alert(1)>"
    rows += [{"id": evil, "url": f"https://x.org/{evil}", "text": HOSTILE + lab.text(99)}]
    rows += [{"id": "by jo@site.org", "url": "https://x.org/jo@site.org", "text": lab.text(98)}]
    lab.jsonl(folder / "a.jsonl", rows)
    sections: dict[str, Any] = {"clean": {"redact": ["email"], "control": False}}
    sections["checks"] = {
        "clean": {"sql": "SELECT COUNT(*) FROM contamination", "equals": 0},
        "large": {"sql": "SELECT COUNT(*) FROM verdicts WHERE kept", "equals": 1_000_000},
    }
    for words in (20, 81):
        rules = {"add": {"long": f"num_words >= {words}"}}
        lab.run(lab.recipe(folder, **sections, rules=rules), folder / "store")
    return folder / "store"


@pytest.fixture(scope="module")
def corpus(store: Path) -> Corpus:
    return open_corpus("tiny@1", store=str(store))


@pytest.fixture(scope="module")
def client(store: Path) -> TestClient:
    return TestClient(make_app(Store(str(store)), PORT), base_url=f"http://127.0.0.1:{PORT}")


def some_id(lab: Any, corpus: Corpus, key: str) -> str:
    rows = lab.frame(corpus, "documents").filter(key=key)
    return str(rows["doc_id"][0])


def pages(lab: Any, corpus: Corpus) -> list[str]:
    evil = next(
        row["doc_id"]
        for row in lab.frame(corpus, "documents").iter_rows(named=True)
        if "alert" in row["text"]
    )
    near = some_id(lab, corpus, "near 3")
    return [
        "/",
        "/corpus/tiny@1/report",
        "/corpus/tiny%402/report",
        "/corpus/tiny@1/verdicts",
        "/corpus/tiny@1/verdicts?fate=dropped&source=notes&page=1",
        f"/corpus/tiny@1/why/{evil}",
        f"/corpus/tiny@2/why/{near[:12]}",
        "/diff?a=tiny@1&b=tiny@2",
        "/diff?a=tiny@2&b=tiny@2",
    ]


def test_every_page_opens_strictly_and_no_file_of_the_store_changes(
    lab: Any, store: Path, corpus: Corpus, client: TestClient
) -> None:
    before = lab.snapshot(store)
    times = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    for address in pages(lab, corpus):
        for method in ("GET", "HEAD"):
            answer = client.request(method, address)
            assert answer.status_code == 200, address
            headers = answer.headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert headers["content-type"] == "text/html; charset=utf-8"
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; ")
            assert "unsafe" not in policy
            assert policy.endswith("frame-ancestors 'none'")
        assert answer.text == "", "HEAD has no body"
    assert lab.snapshot(store) == before
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == times


def test_hostile_text_shows_as_text(lab: Any, corpus: Corpus, client: TestClient) -> None:
    seen = 0
    for address in pages(lab, corpus):
        text = client.get(address).text
        assert "<img" not in text
        assert "<script>alert" not in text
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert text.count("</style>") == 1
        seen += "alert(" in html.unescape(text)
    assert seen >= 3


def test_nothing_redacted_is_shown_or_found(lab: Any, corpus: Corpus, client: TestClient) -> None:
    key = lab.frame(corpus, "documents")["key"].to_list()
    assert not any("jo@site.org" in one for one in key if one), "the corpus masks it"
    for address in pages(lab, corpus):
        assert "jo@site.org" not in client.get(address).text
    assert search(corpus, Query(text="jo@site"))["total"] == 0
    assert search(corpus, Query(text="https://x.org/"))["total"] == 2
    assert search(corpus, Query(text="by "))["total"] == 1


def test_of_very_many_documents_that_hold_a_text_the_first_are_looked_at(
    lab: Any, corpus: Corpus, store: Path, client: TestClient
) -> None:
    from pipelines.serving import search as module

    with lab.patched(module, "MAX_CANDIDATES", 7):
        found = search(corpus, Query(text="//site"))
        page = client.get("/corpus/tiny@1/verdicts?text=//site").text
    assert (found["total"], found["whole"]) == (7, False)
    assert "among the first 7 that hold the text" in page
    assert search(corpus, Query(text="//site.org"))["total"] == 60


def test_a_search_finds_what_the_tables_hold(lab: Any, corpus: Corpus) -> None:
    verdicts = lab.frame(corpus, "verdicts")
    found = search(corpus, Query(reason="duplicate:exact"))
    wanted = {
        r["doc_id"] for r in verdicts.iter_rows(named=True) if "duplicate:exact" in r["reasons"]
    }
    assert {row["doc_id"] for row in found["rows"]} == wanted
    assert len(wanted) == 3
    assert search(corpus, Query(fate="kept"))["total"] == int(verdicts["kept"].sum())
    assert search(corpus, Query(fate="dropped", source="notes"))["total"] == 5
    assert search(corpus, Query(source="nobody"))["rows"] == []
    one = verdicts["doc_id"][0]
    assert [row["doc_id"] for row in search(corpus, Query(id=one[:9]))["rows"]] == [one]
    ids = []
    for page in (1, 2):
        found = search(corpus, Query(page=page))
        ids += [row["doc_id"] for row in found["rows"]]
    assert ids == sorted(verdicts["doc_id"])
    assert len(search(corpus, Query())["rows"]) == PAGE
    assert search(corpus, Query(page=3))["rows"] == []
    assert search(corpus, Query(text="copy"))["total"] == 3
    assert search(corpus, Query(text=".*y"))["total"] == 0, "no pattern, only text"


def test_the_front_page_tells_versions_numbers_and_checks(
    client: TestClient, corpus: Corpus
) -> None:
    home = client.get("/").text
    kept = corpus.manifest("judge").counts["kept"]
    assert f'<td class="r">67</td><td class="r">{kept}</td>' in home
    assert home.count("1 of 2 fail") == 2
    assert 'href="/diff?a=tiny%401&amp;b=tiny%402"' in home
    assert '2 <span class="soft">current</span>' in home


def test_pages_of_a_search_lead_on(client: TestClient) -> None:
    first = client.get("/corpus/tiny@1/verdicts?fate=kept").text
    (link,) = re.findall(r'<a href="([^"]+)" rel="next">', first)
    second = client.get("/corpus/tiny@1/verdicts" + html.unescape(link))
    assert "Page 2 of 2" in second.text
    assert 'rel="next"' not in second.text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"fate": "loved"}, "unknown fate"),
        ({"id": "xyz"}, "hexadecimal"),
        ({"id": "0" * 33}, "hexadecimal"),
        ({"text": "ab"}, "3 to 200"),
        ({"text": "a" * 201}, "3 to 200"),
        ({"page": "0"}, "1 to 400"),
        ({"page": "401"}, "1 to 400"),
        ({"page": "\u0664"}, "number"),
        ({"page": "1" * 5000}, "number"),
        ({"where": "1=1"}, "unknown condition"),
        ({"source": "s" * 301}, "characters"),
    ],
)
def test_what_is_no_search_is_refused(given: dict[str, str], told: str, client: TestClient) -> None:
    with pytest.raises(InputError, match=told):
        parse_query(given)
    answer = client.get("/corpus/tiny@1/verdicts", params=given)
    assert answer.status_code in (400, 414)


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/nothing", 404),
        ("/corpus/tiny@9/report", 404),
        ("/corpus/tiny/report", 404),
        ("/corpus/nobody@1/report", 404),
        ("/corpus/..%2f..%2fetc%2fpasswd/report", 404),
        ("/corpus/../../etc/passwd", 404),
        ("/corpus/.%2e@1/report", 404),
        ("/corpus/tiny@1/why/0", 404),
        ("/corpus/tiny@1/why/" + "0" * 32, 404),
        ("/corpus/tiny@1/why/..%2f..", 404),
        ("/corpus/tiny@1/report?x=1", 400),
        ("/corpus/tiny@1/verdicts?id=aa&id=bb", 400),
        ("/diff", 404),
        ("/diff/?a=tiny@1&b=tiny@2", 404),
        ("/diff?a=tiny@1&b=%00", 404),
        ("/diff?a=tiny@1&b=<script>alert(1)</script>", 404),
        ("/corpus/" + "a" * 400, 414),
        ("/?" + "a" * 3000, 414),
    ],
)
def test_what_is_not_there_is_a_page_that_says_so(
    address: str, status: int, client: TestClient
) -> None:
    answer = client.get(address)
    assert answer.status_code == status
    assert '<a href="/">All corpora</a>' in answer.text
    assert "Traceback" not in answer.text
    assert "<script" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"])
def test_only_looking_is_allowed(method: str, client: TestClient) -> None:
    answer = client.request(method, "/")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "host",
    ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}", "", "[::1]"],
)
def test_a_request_for_another_host_is_refused(host: str, client: TestClient) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 421
    assert client.get("/", headers={"Host": f"LOCALHOST:{PORT}"}).status_code == 200


def test_another_sites_page_may_link_and_not_embed(client: TestClient) -> None:
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert client.get("/", headers={**cross, "Sec-Fetch-Mode": "no-cors"}).status_code == 403
    assert client.get("/", headers={**cross, "Sec-Fetch-Mode": "navigate"}).status_code == 200


def test_a_damaged_store_is_told_and_not_a_traceback(
    lab: Any, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "store"
    shutil.copytree(store, broken)
    for path in (broken / "judge" / "data").iterdir():
        path.write_bytes(b"not a file of ours")
    client = TestClient(make_app(Store(str(broken)), PORT), base_url=f"http://127.0.0.1:{PORT}")
    for address in ("/corpus/tiny@1/report", "/corpus/tiny@1/verdicts", "/diff?a=tiny@1&b=tiny@2"):
        answer = client.get(address)
        assert answer.status_code == 500
        assert "Traceback" not in answer.text
        assert "cannot be read" in answer.text
    client.get("/corpus/tiny@1/why/%1b[31m")
    assert "\x1b" not in capsys.readouterr().out


def test_a_fault_of_ours_is_told_on_the_terminal_and_no_page_shows_it(
    lab: Any, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(corpus: Any) -> Any:
        raise RuntimeError("what \x1b[31m went wrong")

    client = TestClient(make_app(Store(str(store)), PORT), base_url=f"http://127.0.0.1:{PORT}")
    with lab.patched(pipelines.report, "build_report", broken):
        answer = client.get("/corpus/tiny@1/report")
    assert answer.status_code == 500
    assert "went wrong" not in answer.text
    told = capsys.readouterr().out
    assert "/corpus/tiny@1/report: RuntimeError: what " in told
    assert "\x1b" not in told, "what came from data cannot command the terminal"


def test_a_withdrawn_version_is_named_and_not_shown(store: Path, tmp_path: Path) -> None:
    copied = tmp_path / "store"
    shutil.copytree(store, copied)
    opened = Store(str(copied))
    client = TestClient(make_app(opened, PORT), base_url=f"http://127.0.0.1:{PORT}")
    addresses = ["report", "verdicts", "why/0000"]
    addresses = [f"/corpus/tiny@1/{page}" for page in addresses] + ["/diff?a=tiny@1&b=tiny@2"]
    assert client.get(addresses[0]).status_code == 200, "a page that is kept from now on"
    record = {"version": 1, "when": "2026-01-01T00:00:00Z", "why": "asked by <b>somebody</b>"}
    assert opened.withdrawals("tiny").append(record, after=0)
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code == 404, address
        assert "withdrawn" in answer.text
    home = client.get("/").text
    assert "asked by &lt;b&gt;somebody&lt;/b&gt;" in home
    assert "tiny%401/report" not in home
    assert "tiny%402/report" in home


def test_a_page_is_made_once(corpus: Corpus, lab: Any, store: Path) -> None:
    import pipelines.report

    made = []
    build = pipelines.report.build_report

    def counted(one: Corpus) -> Any:
        made.append(str(one.version))
        return build(one)

    client = TestClient(make_app(Store(str(store)), PORT), base_url=f"http://127.0.0.1:{PORT}")
    texts: list[str] = []
    with lab.patched(pipelines.report, "build_report", counted):
        asking = [
            threading.Thread(target=lambda: texts.append(client.get("/corpus/tiny@1/report").text))
            for _ in range(3)
        ]
        for one in asking:
            one.start()
        for one in asking:
            one.join(60)
    assert texts == [build(corpus).html] * 3
    assert made == ["tiny@1"]


def test_the_server_listens_on_the_loopback_address_alone_and_refuses_a_taken_port() -> None:
    with _bound(0) as first:
        address, port = first.getsockname()
        assert address == HOST == "127.0.0.1"
        with pytest.raises(InputError, match=f"port {port} is taken; --port 0"):
            _bound(port)


def test_a_store_without_a_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no corpus yet"):
        serve(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists(), "and not made either"


def test_the_server_answers_over_a_socket_and_ends_when_told(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import uvicorn

    servers = []

    class Told(uvicorn.Server):
        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            servers.append(self)

        @contextlib.contextmanager
        def capture_signals(self) -> Any:
            yield  # signals are the main thread's

    listening = _bound(0)
    port = listening.getsockname()[1]
    monkeypatch.setattr(uvicorn, "Server", Told)
    monkeypatch.setattr("pipelines.serving.server._bound", lambda port: listening)
    running = threading.Thread(target=serve, args=(str(store),), daemon=True)
    running.start()
    with socket.create_connection((HOST, port), timeout=20) as connection:
        request = f"GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"\r\nserver:" not in answer.lower()
    assert quote("tiny@2").encode() in answer or b"tiny@2" in answer
    servers[0].should_exit = True
    running.join(20)
    assert not running.is_alive()
