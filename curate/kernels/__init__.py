"""Arrays in, arrays out: the inner loops over Arrow text buffers."""
