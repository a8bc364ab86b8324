"""Parity of an exported file with its model: what runs there compared, site by site, with what runs here."""

from qat.export.parity.certificate import Bounds, Certificate, MetricScale, Row, SiteParity, broken
from qat.export.parity.certify import Score, Subject, certify
from qat.export.parity.counts import CodeCounts, OutputCounts

__all__ = [
    "Bounds",
    "Certificate",
    "CodeCounts",
    "MetricScale",
    "OutputCounts",
    "Row",
    "Score",
    "SiteParity",
    "Subject",
    "broken",
    "certify",
]
