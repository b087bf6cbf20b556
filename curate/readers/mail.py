"""Mail, one message a file: `.eml` here, the files of a maildir by the reader of that name.

The text is what its author wrote: the plain part, or the HTML one as text, without the replies
that it quotes and without its signature, whose lines are counted in `meta`. Attachments are named
there and never decoded. A mail's Message-ID is its key.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curate.readers.base import (
    Batch,
    Opener,
    Option,
    Reader,
    Slice,
    max_document_bytes,
    settings_of,
    whole_file,
)
from curate.readers.batches import Builder
from curate.readers.columns import Columns, Problem
from curate.readers.html_plain import plain_text
from curate.readers.mail_parts import InvalidMail, Mail, read_mail
from curate.readers.mail_quotes import split_quotes, split_signature

__all__ = ["FIELDS", "OPTIONS", "READER", "add_mail"]

OPTIONS = {
    "quotes": Option(
        "remove",
        "quoted replies; mark: a line tells how many lines there were",
        ("keep", "mark", "remove"),
    ),
    "signatures": Option("remove", "what stands under every mail", ("keep", "remove")),
}

_HEADERS = {
    "subject": "subject",
    "from": "from",
    "to": "to",
    "cc": "cc",
    "in-reply-to": "in_reply_to",
    "list-id": "list_id",
    "organization": "organization",
}
FIELDS = frozenset(
    {"text", "id", "url", "license", "timestamp", *_HEADERS.values()}
    | {"quoted_lines", "signature_lines", "attachments", "notes"}
)
_HTML_QUOTES = ("blockquote", ".gmail_quote", ".moz-cite-prefix")
_HTML_SIGNATURES = (".gmail_signature", ".moz-signature")
_MAX_META = 1_000  # characters of a header, attachments of a mail that are named


def add_mail(
    builder: Builder, position: int, data: bytes, columns: Columns, settings: Mapping[str, Any]
) -> None:
    """Add a message as a record, or as the reject that it is."""
    try:
        mail = read_mail(data)
        text, counts = _text(mail, settings)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # Beside what we found: Python's parser of headers fails in its own ways on hostile ones.
        builder.reject(position, "invalid_mail", str(error))
        return
    record: dict[str, Any] = {
        name: mail.headers[header][:_MAX_META]
        for header, name in _HEADERS.items()
        if mail.headers.get(header)
    }
    record["text"] = text
    record["id"] = mail.headers.get("message-id", "").strip("<> ")[:_MAX_META] or None
    record["timestamp"] = mail.headers.get("date", "")[:_MAX_META] or None
    archived = mail.headers.get("archived-at", "").strip("<> ")
    if archived.startswith(("http://", "https://")):
        record["url"] = archived
    record.update({name: count for name, count in counts.items() if count})
    if mail.attachments:
        record["attachments"] = mail.attachments[:_MAX_META]
    if mail.notes:
        record["notes"] = mail.notes
    builder.record(position, columns, record, len(data))


def _text(mail: Mail, settings: Mapping[str, Any]) -> tuple[str, dict[str, int]]:
    """Return the author's own words, and how many lines of others' were left out."""
    texts = []
    quoted = signed = 0
    for part in mail.plain:
        text, count = split_quotes(part, settings["quotes"])
        quoted += count
        if settings["signatures"] == "remove":
            text, count = split_signature(text)
            signed += count
        texts.append(text)
    for part in mail.html:
        text, counts = _html_text(part, settings)
        quoted += counts[0]
        signed += counts[1]
        texts.append(text)
    whole = "\n\n".join(text for text in (text.strip() for text in texts) if text)
    return whole, {"quoted_lines": quoted, "signature_lines": signed}


def _html_text(part: str, settings: Mapping[str, Any]) -> tuple[str, tuple[int, int]]:
    """Return an HTML part as text, with the lines quoted and those of signatures left out."""
    whole = _plain(part)
    text = unsigned = whole
    if settings["signatures"] == "remove":
        text = unsigned = _plain(part, _HTML_SIGNATURES)
    signatures = _HTML_SIGNATURES if settings["signatures"] == "remove" else ()
    kept = _plain(part, (*_HTML_QUOTES, *signatures))
    quoted = _lines(unsigned) - _lines(kept)
    if settings["quotes"] != "keep":
        text = kept
    if quoted and settings["quotes"] == "mark":
        text += f"\n[{quoted} line{'s' if quoted > 1 else ''} quoted]"
    return text, (quoted, _lines(whole) - _lines(unsigned))


def _plain(part: str, skip: Sequence[str] = ()) -> str:
    text = plain_text(part, skip)
    if isinstance(text, Problem):
        raise InvalidMail(f"its HTML is refused: {text.detail}")
    return text


def _lines(text: str) -> int:
    return sum(1 for line in text.split("\n") if line.strip())


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Yield the message as one record, or as one reject.

    Raises:
        UnreadableFileError: the file is missing, or its compressed data is not whole.
    """
    settings = settings_of(OPTIONS, options)
    columns = Columns.from_options(options)
    columns.require(FIELDS, part.file.path)
    max_bytes = max_document_bytes(options)
    builder = Builder()
    with opener() as stream:
        data = stream.read(max_bytes + 1)
    if not data:
        builder.reject(0, "no_text", "the file is empty")
    elif len(data) > max_bytes:
        builder.reject(0, "too_large", f"a mail above max_document_bytes, {max_bytes:,}")
    else:
        # A file that was cut out of an mbox, or saved by an old program, keeps its envelope.
        if data.startswith(b"From "):
            data = data.partition(b"\n")[2]
        add_mail(builder, 0, data, columns, settings)
    yield builder.take()


READER = Reader(
    name="mail",
    suffixes=(".eml",),
    one_document_per_file=True,
    split=whole_file,
    read=read,
    options=OPTIONS,
)
