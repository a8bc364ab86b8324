"""The transformation's inside: a traced function with its sites, ranges, evaluation and conversion."""
