"""Figures of a server in the text format of Prometheus."""

from dataclasses import dataclass
from typing import Any

from qat.lab.serving.shadow import Disagreement

LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PREFIX = "qat_serve"


@dataclass(frozen=True)
class Metrics:
    """Counters, gauges and histograms of one server, each in its own `registry`."""

    registry: Any
    requests: Any
    latency: Any
    batch_size: Any
    queue_length: Any
    disagreement: Any
    disagreement_lower: Any
    comparisons: Any
    passed_over: Any
    fallbacks: Any
    answering: Any

    def compared(self, now: Disagreement, count: int) -> None:
        """Tell the disagreement after `count` more comparisons."""
        self.comparisons.inc(count)
        self.disagreement.set(now.mean)
        self.disagreement_lower.set(now.lower)

    def fell_back(self, name: str) -> None:
        """Tell that the fallback of this name answers."""
        self.fallbacks.inc()
        self.answers_by(name)

    def answers_by(self, name: str) -> None:
        """Tell which model answers."""
        self.answering.clear()
        self.answering.labels(name).set(1)

    def text(self) -> bytes:
        """All figures, for a scrape."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)


def metrics(largest_batch: int) -> Metrics:
    """Figures that are all zero, of batches of at most that size."""
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

    from qat.lab.serving.servable import batch_sizes

    registry = CollectorRegistry()

    def made(kind: Any, name: str, told: str, labels: tuple[str, ...] = (), **more: Any) -> Any:
        return kind(f"{PREFIX}_{name}", told, labels, registry=registry, **more)

    return Metrics(
        registry=registry,
        requests=made(Counter, "requests", "Requests for predictions by the status of their answer.", ("status",)),
        latency=made(
            Histogram, "request_seconds", "Seconds from a request to its answer, of those answered.", buckets=LATENCIES
        ),
        batch_size=made(
            Histogram, "batch_size", "Inputs that were computed together.", buckets=batch_sizes(largest_batch)
        ),
        queue_length=made(Gauge, "queue_length", "Inputs that wait to be computed."),
        disagreement=made(Gauge, "disagreement", "Share of recent comparisons on which int8 and float disagree."),
        disagreement_lower=made(Gauge, "disagreement_lower_bound", "A lower confidence bound on the disagreement."),
        comparisons=made(Counter, "comparisons", "Inputs that were also computed by the fallback."),
        passed_over=made(Counter, "comparisons_passed_over", "Inputs not compared, as comparisons were behind."),
        fallbacks=made(Counter, "fallbacks", "Times that the fallback took over."),
        answering=made(Gauge, "answering", "1 for the model that answers.", ("model",)),
    )
