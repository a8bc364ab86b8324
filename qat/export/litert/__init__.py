"""LiteRT files: a served function with its quantizers as composites, turned into a flatbuffer by another process."""
