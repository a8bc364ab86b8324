"""Tools on a finished trial: detectors and text classifiers beside their float model."""
