"""What redaction looks for: one file per kind, each a linear pattern and a judge of its matches."""
