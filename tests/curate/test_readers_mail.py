"""Mail: every message of a box is a document or a reject, and says what was left out of it."""

import functools
import io
import json
import mailbox
import time
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError, UnreadableFileError
from curate.readers.base import RECORDS, InputFile, Reject, Slice
from curate.readers.discover import expand, open_stream
from curate.readers.mail_parts import InvalidMail, read_mail
from curate.readers.mail_quotes import split_quotes, split_signature
from curate.readers.registry import reader_for, reader_named

Rows = list[dict[str, Any]]


def read_slices(slices: list[Slice], data: bytes, **options: Any) -> tuple[Rows, list[Reject]]:
    rows: Rows = []
    rejects: list[Reject] = []
    for part in slices:
        reader, _ = reader_for(part.file.path)
        for batch in reader.read(part, lambda: io.BytesIO(data), options):
            assert batch.records.schema.equals(RECORDS)
            rows += batch.records.to_pylist()
            rejects += batch.rejects
    return rows, rejects


def read_bytes(data: bytes, path: str = "a.eml", **options: Any) -> tuple[Rows, list[Reject]]:
    return read_slices([Slice(InputFile("test:", path, len(data), "1"))], data, **options)


def meta_of(row: dict[str, Any]) -> dict[str, Any]:
    return json.loads(row["meta"] or "{}")


def mail(text: str = "Yes.", **headers: str) -> EmailMessage:
    message = EmailMessage()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content(text)
    return message


# --- one message -------------------------------------------------------------------------------


def test_a_message_is_a_document_with_its_headers():
    message = mail(
        "H\u00e4llo\n",
        Subject="Gr\u00fc\u00dfe an alle, die hier mitlesen und noch lange nicht aufh\u00f6ren",
        From="\u00c4nn <a@b.c>",
        To="list@b.c",
        Message_ID="<1@b.c>",
        In_Reply_To="<0@b.c>",
        List_Id="Tea <tea.b.c>",
        Date="Thu, 02 Jan 2020 03:04:05 +0100",
        Archived_At="<https://b.c/1>",
    )
    rows, rejects = read_bytes(message.as_bytes())
    assert rejects == []
    assert rows[0] | {"meta": None} == {
        "text": "H\u00e4llo",
        "key": "1@b.c",
        "url": "https://b.c/1",
        "license": None,
        "timestamp": "2020-01-02T02:04:05Z",
        "position": 0,
        "meta": None,
    }
    assert meta_of(rows[0]) == {
        "from": "\u00c4nn <a@b.c>",
        "in_reply_to": "<0@b.c>",
        "list_id": "Tea <tea.b.c>",
        "subject": "Gr\u00fc\u00dfe an alle, die hier mitlesen und noch lange nicht aufh\u00f6ren",
        "to": "list@b.c",
    }


def test_the_plain_part_is_preferred_and_attachments_are_named_but_not_read():
    message = mail("plain")
    message.add_alternative("<p>html</p>", subtype="html")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="b\u00e4.pdf")
    message.add_attachment("secret", filename="c.txt")
    rows, _ = read_bytes(message.as_bytes())
    assert rows[0]["text"] == "plain"
    assert meta_of(rows[0]) == {"attachments": ["b\u00e4.pdf", "c.txt"]}


def test_html_alone_becomes_text_without_quotes_and_signature():
    html = (
        "<p>caf\u00e9 &amp; tea</p><blockquote>their<br>words</blockquote>"
        '<div class="gmail_signature">Bob</div>'
    )
    message = EmailMessage()
    message.set_content(html, subtype="html", charset="iso-8859-1", cte="quoted-printable")
    data = message.as_bytes()
    rows, _ = read_bytes(data)
    assert rows[0]["text"] == "caf\u00e9 & tea"
    assert meta_of(rows[0]) == {"quoted_lines": 2, "signature_lines": 1}
    rows, _ = read_bytes(data, options={"quotes": "mark", "signatures": "keep"})
    assert rows[0]["text"] == "caf\u00e9 & tea\n\nBob\n[2 lines quoted]"
    rows, _ = read_bytes(data, options={"quotes": "keep"})
    assert "their\nwords" in rows[0]["text"]
    refused = b"Content-Type: text/html\n\n" + b"<div>" * 5000 + b"x"
    assert read_bytes(refused)[1][0].reason == "invalid_mail"


def test_a_mail_inside_a_mail_is_read_and_a_digest_too():
    inner = mail("inner text", Subject="in")
    outer = EmailMessage()
    outer.set_content("see below")
    outer.add_attachment(inner, disposition="inline")
    rows, _ = read_bytes(outer.as_bytes())
    assert rows[0]["text"] == "see below\n\ninner text"
    digest = (
        b"Content-Type: multipart/digest; boundary=x\n\n--x\n\nSubject: a\n\none\n"
        b"--x\n\nSubject: b\n\ntwo\n--x--\n"
    )
    rows, _ = read_bytes(digest)
    assert rows[0]["text"] == "one\n\ntwo"


@pytest.mark.parametrize(
    ("declared", "body", "text", "used"),
    [
        ("utf-8", b"caf\xe9", "caf\u00e9", "latin-1"),
        ("us-ascii", b"caf\xc3\xa9", "caf\u00e9", None),
        ("x-unknown", b"caf\xc3\xa9", "caf\u00e9", "utf-8"),
        ("koi8-r", b"\xd4\xc5\xd3\xd4", "\u0442\u0435\u0441\u0442", None),
        ("unicode_escape", rb"\u0041", r"\u0041", "utf-8"),
        ("punycode", b"a-b", "a-b", "utf-8"),
        ("rot13", b"abc", "abc", "utf-8"),
        ("utf-7", b"+2AA-", "+2AA-", "utf-8"),
        ("\xff", b"abc", "abc", "utf-8"),
    ],
)
def test_a_charset_that_does_not_fit_gives_way_and_that_is_noted(declared, body, text, used):
    head = f'Content-Type: text/plain; charset="{declared}"\n\n'.encode("latin-1")
    rows, _ = read_bytes(head + body)
    assert rows[0]["text"] == text
    notes = meta_of(rows[0]).get("notes", [])
    assert notes == [] if used is None else notes[0].endswith(f"read as {used}")


@pytest.mark.parametrize(
    ("how", "body", "text"),
    [
        ("base64", b"SGVsbG8=", "Hello"),
        ("base64", b"SGVs\nbG8=\n-- \nfooter of a list", "Hello"),
        ("base64", b"SGVsbG8gd", "Hello "),
        ("quoted-printable", b"a=3Db=\nc =", "a=bc"),
        ("x-uuencode", b"begin", "begin"),
    ],
)
def test_transfer_encodings_are_undone_as_far_as_they_go(how, body, text):
    rows, _ = read_bytes(b"Content-Transfer-Encoding: " + how.encode() + b"\n\n" + body)
    assert rows[0]["text"].strip() == text.strip()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no_text"),
        (b"no header here\n\ntext", "invalid_mail"),
        (b"\n\ntext", "invalid_mail"),
        (b"Subject: a\n\n", "no_text"),
        (b"Subject: a\n\n> only\n> quotes\n", "no_text"),
        (b"A: " + b"b" * 300_000 + b"\n\nc", "invalid_mail"),
        (b"A: b\n\n" + b"c" * 1_000_000, "too_large"),
    ],
)
def test_what_has_no_text_of_its_own_is_a_reject(data, reason):
    rows, rejects = read_bytes(data, max_document_bytes=900_000)
    assert (rows, [reject.reason for reject in rejects]) == ([], [reason])


def test_an_option_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="quotes"):
        read_bytes(b"A: b\n\nc", options={"quotes": "drop"})


def test_a_body_may_begin_without_a_blank_line():
    rows, _ = read_bytes(b"Subject: a\nhere is caf\xc3\xa9\n\nmore")
    assert rows[0]["text"] == "here is caf\u00e9\n\nmore"


# --- quotes and signatures ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "own", "count"),
    [
        ("a\n> b\nc", "a\nc", 1),
        ("On Mon, Ann wrote:\n\n> a\n\nb", "b", 3),
        ("Am Montag schrieb\nAnn <a@b.c>:\n> a\nb", "b", 3),
        ("I wrote: nothing\nb", "I wrote: nothing\nb", 0),
        ("a\n-----Original Message-----\nb\nc", "a", 3),
        ("a\n\nFrom: Ann\nSent: Monday\nTo: Bob\nb", "a", 4),
        ("From: here to there\nb", "From: here to there\nb", 0),
        ("a", "a", 0),
    ],
)
def test_quoted_replies_go_with_the_line_that_announces_them(text, own, count):
    assert split_quotes(text, "remove") == (own, count)
    assert split_quotes(text, "keep") == (text, count)


lines = st.lists(
    st.sampled_from(["a", "> b", ">> c", "", "X wrote:", "-----Original Message-----", " > d"]),
    max_size=12,
)


@given(lines)
def test_every_line_is_either_kept_or_counted(parts):
    text = "\n".join(parts)
    own, count = split_quotes(text, "remove")
    blank = sum(not line.strip() for line in parts)
    kept = len(own.split("\n")) if own else 0
    assert len(parts) - blank <= kept + count <= max(len(parts), 1) or not parts
    assert not any(line.lstrip().startswith(">") for line in own.split("\n"))
    marked, _ = split_quotes(text, "mark")
    told = [line.split()[0][1:] for line in marked.split("\n") if line.endswith(" quoted]")]
    assert sum(map(int, told)) == count


@pytest.mark.parametrize(
    ("text", "own", "count"),
    [
        ("a\n-- \nb\nc\n", "a", 3),
        ("a\n" + "_" * 47 + "\nlist mailing list", "a", 2),
        ("a\n--\nb", "a", 2),
        ("a -- b\n---", "a -- b\n---", 0),
        ("a\n-- \n" + "b\n" * 30, "a\n-- \n" + "b\n" * 30, 0),
        ("", "", 0),
    ],
)
def test_signatures_are_found_at_the_end_only(text, own, count):
    assert split_signature(text) == (own, count)


# --- hostile mail ------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    data = b"A: b\n\nx"
    for level in range(depth):
        mark = b"b%d" % level
        data = b"Content-Type: multipart/mixed; boundary=%s\n\n--%s\n%s\n--%s--\n" % (
            mark,
            mark,
            data,
            mark,
        )
    return data


def test_parts_may_be_nested_but_not_without_end():
    assert read_mail(nested(10)).plain == ["x"]
    with pytest.raises(InvalidMail, match="nested"):
        read_mail(nested(500))
    with pytest.raises(InvalidMail, match="nested"):
        read_mail(b"Content-Type: message/rfc822\n\n" * 500)


@pytest.mark.parametrize(
    "data",
    [
        b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 100_000,
        b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--bx\n" * 100_000,
        b"Subject: " + b"=?utf-8?q?a?= " * 15_000 + b"\n\nx",
        b"Content-Type: text/plain; " + b'a="b";' * 40_000 + b"\n\nx",
        b"A: b\n" * 40_000 + b"\nx",
        b"A: b\n\n" + b"X wrote:\n> x\n" * 50_000,
        b"Content-Transfer-Encoding: quoted-printable\n\n" + b"=" * 200_000,
    ],
    ids=range(7),
)
def test_hostile_mail_takes_linear_time(data):
    begin = time.process_time()
    rows, rejects = read_bytes(data)
    assert len(rows) + len(rejects) == 1
    assert time.process_time() - begin < 3


parts_of_mail = st.sampled_from(
    [
        b"\n",
        b"\r\n",
        b"--b",
        b"--b--",
        b"Content-Type: multipart/alternative; boundary=b",
        b"Content-Type: text/html; charset=utf-16",
        b"Content-Type: message/rfc822",
        b"Content-Type:",
        b"Content-Transfer-Encoding: base64",
        b"Content-Disposition: attachment; filename*=utf-8''%ff",
        b"Subject: =?x?q?=FF?=",
        b"Date: Thu, 99 Jan 99999",
        b"\xff\x00",
        b"> q",
        b"-- ",
        b" folded",
        b"From x",
        b"text",
    ]
)


@given(st.lists(parts_of_mail | st.binary(max_size=8), max_size=20), st.booleans())
def test_any_bytes_are_one_record_or_one_reject(parts, begins):
    data = b"".join((b"A: b\n" if begins else b"", *parts))
    rows, rejects = read_bytes(data)
    assert len(rows) + len(rejects) == 1
    assert all(row["text"] for row in rows)


# --- mailboxes ---------------------------------------------------------------------------------

FROM = b"From a@b.c Thu Jan  2 03:04:05 2020\n"


def test_a_box_of_the_standard_library_gives_its_messages(tmp_path):
    texts = ["one\n\nFrom here it is text\n", "From the start\n", ">From there\n", "last\n"]
    box = mailbox.mbox(tmp_path / "a.mbox")
    for number, text in enumerate(texts):
        box.add(mail(text, Message_ID=f"<{number}@b.c>"))
    box.close()
    data = (tmp_path / "a.mbox").read_bytes()
    rows, rejects = read_bytes(data, "a.mbox")
    assert rejects == []
    assert [row["key"] for row in rows] == [f"{number}@b.c" for number in range(4)]
    assert rows[0]["text"] == "one\n\nFrom here it is text"
    assert rows[1]["text"] == "From the start"
    assert all(data[row["position"] :].startswith(b"From ") for row in rows)


def test_quoted_from_lines_lose_one_mark_and_other_quotes_none():
    data = FROM + b"A: b\n\n>From x\n>>From y\n>Fromage\n"
    rows, _ = read_bytes(data, "a.mbox", options={"quotes": "keep"})
    assert rows[0]["text"] == "From x\n>From y\n>Fromage"


def test_a_sentence_that_begins_with_from_ends_no_message():
    data = FROM + b"A: b\n\none\n\nFrom now on, tea.\n\n" + FROM + b"A: b\n\ntwo\n"
    rows, _ = read_bytes(data, "a.mbox")
    assert [row["text"] for row in rows] == ["one\n\nFrom now on, tea.", "two"]
    # A box without times can only be cut at every such line; what is no mail is then told.
    rows, rejects = read_bytes(data.replace(FROM, b"From x\n"), "a.mbox")
    assert [row["text"] for row in rows] == ["one", "two"]
    assert [reject.reason for reject in rejects] == ["invalid_mail"]


def test_what_stands_before_the_first_message_is_told():
    rows, rejects = read_bytes(b"junk\n\n" + FROM + b"A: b\n\nc\n", "a.mbox")
    assert [row["text"] for row in rows] == ["c"]
    assert [(r.position, r.reason) for r in rejects] == [(0, "invalid_mail")]
    assert read_bytes(b"\n\n" + FROM + b"A: b\n\nc\n", "a.mbox")[1] == []
    assert read_bytes(b"", "a.mbox") == ([], [])


def test_a_message_that_is_too_long_spares_its_neighbours():
    data = b"\n".join(FROM + b"A: b\n\n" + text + b"\n" for text in (b"a", b"b" * 5000, b"c"))
    rows, rejects = read_bytes(data, "a.mbox", max_document_bytes=1000)
    assert [row["text"] for row in rows] == ["a", "c"]
    assert [reject.reason for reject in rejects] == ["too_large"]
    lines_of = b"\n".join([FROM + b"A: b\n\n" + b"x\n" * 5000, FROM + b"A: b\n\nd\n"])
    rows, rejects = read_bytes(lines_of, "a.mbox", max_document_bytes=1000)
    assert [row["text"] for row in rows] == ["d"]


pieces_of_box = st.sampled_from(
    [FROM, b"\n", b"\r\n", b"A: b\n\n", b"text\n", b">From x\n", b"From us\n", b"end"]
)


@given(st.lists(pieces_of_box, max_size=25), st.integers(1, 120), st.booleans())
def test_any_split_of_a_box_gives_the_same_messages(parts, max_bytes, begins):
    data = b"".join((FROM if begins else b"", *parts))
    file = InputFile("test:", "a.mbox", len(data), "1")
    slices = reader_named("mbox").split(file, max_bytes)
    assert read_slices(slices, data) == read_slices([Slice(file)], data)


def test_a_file_that_was_cut_keeps_the_messages_before(tmp_path):
    import gzip

    data = gzip.compress((FROM + b"A: b\n\ntext\n\n") * 3000 + FROM + bytes(range(256)) * 400)
    path = tmp_path / "a.mbox.gz"
    path.write_bytes(data[:-40])
    file = InputFile(str(path), "a.mbox.gz", 1, "1")
    opener = functools.partial(open_stream, file, ".gz")
    rows = []

    def collect() -> None:
        for batch in reader_named("mbox").read(Slice(file), opener, {}):
            rows.extend(batch.records.to_pylist())

    with pytest.raises(UnreadableFileError):
        collect()
    assert len(rows) == 3000


def test_the_files_of_a_maildir_are_mail(tmp_path: Path):
    box = mailbox.Maildir(tmp_path / "box")
    for number in range(3):
        box.add(mail(f"text {number}", Message_ID=f"<{number}@b.c>"))
    read = mailbox.MaildirMessage(mail("seen"))
    read.set_subdir("cur")
    read.add_flag("S")
    box.add(read)
    (tmp_path / "box/dovecot.index").write_bytes(b"x")
    files = expand(["box"], str(tmp_path), "maildir")
    assert len(files) == 4
    assert len(expand(["box/new/*"], str(tmp_path), "maildir")) == 3
    with pytest.raises(InputError, match="new"):
        expand(["box/dovecot.index"], str(tmp_path), "maildir")
    texts = []
    for file in files:
        for batch in reader_named("maildir").read(
            Slice(file), functools.partial(open_stream, file), {}
        ):
            texts += batch.records.column("text").to_pylist()
    assert sorted(texts) == ["seen", "text 0", "text 1", "text 2"]
