"""Files of converted models and of trees of arrays."""
