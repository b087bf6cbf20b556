"""Run a reference in its own environment: `judge.py PEER DOCUMENTS.jsonl OUT.json`.

The standard library only. One line of the input is `{"id": ..., "text": ...}`; the output is
`{preset: {rule: [true, false or null, one per document]}}`, with the seconds of each preset.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Judge every document by every preset of the peer."""
    name, source, out = sys.argv[1:]
    spec = importlib.util.spec_from_file_location(name, HERE / "peers" / f"{name}.py")
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    judges = {preset: peer.judge(preset) for preset in peer.PRESETS}
    found = {preset: {} for preset in judges}
    seconds = dict.fromkeys(judges, 0.0)
    with Path(source).open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    for number, text in enumerate(texts):
        for preset, judge_one in judges.items():
            start = time.process_time()
            decisions = judge_one(text)
            seconds[preset] += time.process_time() - start
            for rule, kept in decisions.items():
                column = found[preset].setdefault(rule, [])
                assert len(column) == number, f"{preset}.{rule} did not judge every document"
                column.append(kept)
        if number % 500 == 499:
            print(f"  {name}: {number + 1:,} of {len(texts):,}", flush=True)
    Path(out).write_text(json.dumps({"decisions": found, "seconds": seconds}))


main()
