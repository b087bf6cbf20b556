"""Which test items a corpus holds: the n-gram index of benchmarks and its matcher."""
