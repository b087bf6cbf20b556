"""Token files of other trainers, one format per module: arrays in, bytes out, no store.

Every module publishes one `FORMAT`; adding a file adds the format. Byte layouts are facts of the
projects named in the modules, and are read back by those projects' own code (`make check-exports`).
"""
