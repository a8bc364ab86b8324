"""Many experiments from one file: `study` reads and multiplies it out, `run` runs it, `folder` is it on disk."""
