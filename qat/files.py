"""What lies where in a run folder: names that who writes a file and who reads it share."""

STAGES = "stages"
SUPERSEDED = "superseded"  # results whose settings, code or data have changed since, and damaged ones

CONFIG_FILE, MANIFEST_FILE, METRICS_FILE = "config.json", "manifest.json", "metrics.jsonl"
MODEL_FILE, EXAMPLES_FILE, LAYERS_FILE = "model.safetensors", "examples.npz", "layers.json"
ARTIFACT_FILE, DONE_FILE, RAISED_FILE = "artifact.safetensors", "done.json", "raised.json"
CHECKPOINTS, LOG_FILE, FAILURE_FILE = "checkpoints", "log.txt", "failure.json"
KEY_FILE = "key.json"
