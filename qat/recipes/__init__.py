"""Recipes: what is quantized, and how; presets by name."""
