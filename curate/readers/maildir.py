"""Maildirs (say `format: maildir` and name the folder): each file in `new` or `cur` is a mail.

What else lies there (`tmp`, the indexes of servers) is no mail. Folders below a maildir that begin
with a dot, as servers name them, are hidden and have to be named themselves.

>>> file = InputFile("box/cur/1577934245.M1.host:2,S", "box/cur/1577934245.M1.host:2,S", 9, "1")
>>> len(arrange([file]))
1
"""

from collections.abc import Sequence
from pathlib import PurePosixPath

from curate.corpus.errors import InputError
from curate.readers.base import InputFile, Reader, whole_file
from curate.readers.mail import OPTIONS, read

__all__ = ["READER", "arrange"]


def arrange(files: Sequence[InputFile]) -> list[InputFile]:
    """Return the files that are mails.

    Raises:
        InputError: there is none.
    """
    mails = [file for file in files if PurePosixPath(file.path).parent.name in ("new", "cur")]
    if not mails:
        shown = ", ".join(sorted({str(PurePosixPath(file.path).parent) for file in files})[:5])
        raise InputError(
            f"no file lies in a folder `new` or `cur`, as in a maildir; there are: {shown}."
        )
    return mails


READER = Reader(
    name="maildir",
    suffixes=(),
    one_document_per_file=True,
    split=whole_file,
    read=read,
    arrange=arrange,
    options=OPTIONS,
)
