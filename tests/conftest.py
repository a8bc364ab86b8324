"""What every test gets: a headless, quiet environment."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
