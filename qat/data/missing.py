"""Data that are somewhere else: not a mistake of the settings."""


class MissingDataError(ValueError):
    """A data set that reads a user's own folder was told of none."""
