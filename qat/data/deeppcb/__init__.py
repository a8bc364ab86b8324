"""DeepPCB: circuit boards with six kinds of defects, as published (Tang et al. 2019, arXiv 1902.06197)."""

from qat.data.deeppcb.dataset import deeppcb

__all__ = ["deeppcb"]
