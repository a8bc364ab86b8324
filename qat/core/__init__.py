"""Internals of the transformation: a traced function with its sites, its ranges, its evaluation and conversion."""
