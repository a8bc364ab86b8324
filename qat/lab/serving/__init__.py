"""Trained models behind HTTP: batches made of requests, a watch on what int8 changes, and a way back to float."""
