"""What detectors share beside their network: boxes, assignment, losses, suppression, COCO metrics, pictures."""
