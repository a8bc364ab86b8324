"""A job engine: leases, retries, processes and clusters; it knows no quantization."""
