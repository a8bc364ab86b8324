"""What lies where in a run folder: names that who writes a file and who reads it share."""

STAGES = "stages"

CONFIG_FILE, MANIFEST_FILE, METRICS_FILE = "config.json", "manifest.json", "metrics.jsonl"
MODEL_FILE, EXAMPLES_FILE, LAYERS_FILE = "model.safetensors", "examples.npz", "layers.json"
ARTIFACT_FILE, DONE_FILE, RAISED_FILE = "artifact.safetensors", "done.json", "raised.json"
