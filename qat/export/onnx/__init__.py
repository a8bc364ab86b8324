"""An ONNX writer of our own: traced functions, float or quantized, as graphs that runtimes fuse in integers."""
