"""The format everyone shares: identity, schemas, shards, manifests, storage, errors.

Needs numpy, pyarrow and fsspec only, so that a GPU node can read a corpus with nothing else.
"""
