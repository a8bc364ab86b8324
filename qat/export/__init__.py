"""Files of converted models, of calibrations and of trees of arrays."""
