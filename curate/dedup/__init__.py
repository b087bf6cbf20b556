"""Exact and near duplicates: hashes, signatures, candidates, verified edges, who stays."""
