"""Start a command, wait for it, write down what it took: `launch.py REPORT CORE COMMAND ...`.

A small process of its own, because a child's peak memory starts at that of whoever started it.
"""

import json
import os
import sys
import time


def main() -> None:
    """Run on the core (an empty string: on any) and write JSON."""
    report, core, *command = sys.argv[1:]
    if core:
        os.sched_setaffinity(0, {int(core)})
    start = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, used = os.wait4(child, 0)
    facts = {
        "wall_s": time.perf_counter() - start,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "code": os.waitstatus_to_exitcode(status),
    }
    with open(report, "w", encoding="ascii") as out:  # noqa: PTH123  pathlib weighs 3 MiB
        json.dump(facts, out)


main()
