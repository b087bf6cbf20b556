r"""What a mail repeats from others: quoted replies, and what stands under every mail: signatures.

>>> split_quotes("Yes.\n\nOn Monday Ann wrote:\n> Tea?\n> Or not?\nBye", "remove")
('Yes.\n\nBye', 3)
>>> split_quotes("> Tea?\nYes.", "mark")
('[1 line quoted]\nYes.', 1)
>>> split_signature("Yes.\n-- \nBob, Tea Ltd.")
('Yes.', 2)
"""

import re

__all__ = ["split_quotes", "split_signature"]

# How mail programs announce what they quote, in the languages that are met most.
_SAYS = re.compile(
    r"\b(?:wrote|writes|schrieb|schreef|skrev|escribi\u00f3|escreveu|ha scritto|"
    r"a \u00e9crit|\u043f\u0438\u0448\u0435\u0442|\u043d\u0430\u043f\u0438\u0441\u0430\u043b)\b"
)
_ORIGINAL = re.compile(
    r"[ \t]{0,8}-{2,20} ?(?:Original Message|Urspr\u00fcngliche Nachricht|Message d'origine|"
    r"Mensaje original|Messaggio originale|Forwarded by .{0,80}) ?-{2,20}[ \t]{0,8}"
)
_OUTLOOK = re.compile(r"(?:From|Von|De|Da): .{1,200}")
_SENT = re.compile(r"(?:Sent|Date|Gesendet|Datum|Envoy\u00e9|Enviado|Inviato): .{1,200}")
_QUOTED = re.compile(r"[ \t]{0,4}>")
_LONGEST_SAYING = 300
_FOOTER = re.compile(r"_{30,200}[ \t]{0,8}")
_SIGNATURE_LINES = 15


def split_quotes(text: str, what: str) -> tuple[str, int]:
    """Return the text without what it quotes, and how many lines that were.

    Lines that begin with ">" are quoted, together with the line or two that say who wrote them;
    so is all behind "-----Original Message-----" and the like.

    Args:
        text: the body of a mail.
        what: `keep` (count only), `mark` (a line tells how many were there) or `remove`.
    """
    lines = text.split("\n")
    quoted = _quoted_lines(lines)
    count = sum(quoted)
    if what == "keep" or not count:
        return text, count
    kept: list[str] = []
    run = 0
    for line, is_quoted in zip([*lines, ""], [*quoted, False], strict=True):
        if is_quoted:
            run += 1
            continue
        if run and what == "mark":
            kept.append(f"[{run} line{'s' if run > 1 else ''} quoted]")
        run = 0
        kept.append(line)
    return "\n".join(kept[:-1]).strip("\n"), count


def _quoted_lines(lines: list[str]) -> list[bool]:
    quoted = [bool(_QUOTED.match(line)) for line in lines]
    for number, line in enumerate(lines):
        if _ORIGINAL.fullmatch(line) or _is_outlook(lines, number):
            quoted[number:] = [True] * (len(lines) - number)
            break
    for number in range(1, len(lines)):
        if quoted[number] and not quoted[number - 1]:
            _take_saying(lines, quoted, number - 1)
    return quoted


def _is_outlook(lines: list[str], number: int) -> bool:
    """Whether a block "From: ... Sent: ... To: ..." begins, as Outlook puts before a quote."""
    if not _OUTLOOK.fullmatch(lines[number].strip("* ")) or number + 1 >= len(lines):
        return False
    return any(_SENT.fullmatch(line.strip("* ")) for line in lines[number + 1 : number + 3])


def _take_saying(lines: list[str], quoted: list[bool], last: int) -> None:
    """Count the line or two "On ..., X wrote:" before a quote to it; blank lines between, too."""
    end = last
    while end >= 0 and last - end < 2 and not lines[end].strip():
        end -= 1
    for begin in (end, end - 1):
        if begin < 0 or quoted[begin]:
            return
        said = " ".join(lines[begin : end + 1]).strip()
        if len(said) <= _LONGEST_SAYING and said.endswith(":") and _SAYS.search(said):
            quoted[begin : last + 1] = [True] * (last + 1 - begin)
            return


def split_signature(text: str) -> tuple[str, int]:
    """Return the text without its signature, and how many lines that had.

    A signature begins, among the last 15 lines, with the line "-- " (RFC 3676), with "--", or with
    the ruler of a mailing list's footer.
    """
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    first = max(0, len(lines) - _SIGNATURE_LINES - 1)
    begin = next(
        (
            number
            for number in range(first, len(lines))
            if lines[number] in ("-- ", "--") or _FOOTER.fullmatch(lines[number])
        ),
        None,
    )
    if begin is None:
        return text, 0
    return "\n".join(lines[:begin]).rstrip(), len(lines) - begin
