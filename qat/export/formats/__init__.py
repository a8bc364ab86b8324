"""Exporters, one file each: a registered function that returns an `Exporter`."""

from qat.registry import load_members

load_members(__path__, __name__)
