"""lm-eval's Janitor, its implementation in Python."""

import shared
from lm_eval.decontamination.janitor import Janitor


def main() -> None:
    """Count the documents that it would cut."""
    janitor = Janitor(ngram_n=13)
    for item in shared.items():
        janitor.register_contaminant_python(item)

    def work(texts: list[str]) -> int:
        return sum(len(janitor.clean_python(text)) != 1 for text in texts)

    shared.report(work)


if __name__ == "__main__":
    main()
