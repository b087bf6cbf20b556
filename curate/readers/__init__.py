"""Readers: one file per format, each turning files into documents and rejected records.

`base` is the contract, `registry` finds the readers, `discover` finds files and plans parts.
"""
