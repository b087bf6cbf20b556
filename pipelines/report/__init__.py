"""The report: what a corpus version is, what it lost and why, as one page to read and as JSON.

>>> from pipelines.report import write_report
>>> write_report(pipelines.open_corpus("archive"), "archive.html")   # doctest: +SKIP
"""

from pipelines.report.page import Report, build_report, summary, write_report

__all__ = ["Report", "build_report", "summary", "write_report"]
