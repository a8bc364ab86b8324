"""Object detection: boxes, assignment, losses, suppression, COCO metrics, and the task."""

from qat.tasks.detection.task import detection

__all__ = ["detection"]
