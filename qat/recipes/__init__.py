"""Recipes: rules that choose what is quantized and how, and presets of them by name."""
