"""A writer of ONNX graphs: it reads the jaxpr of a function with symbolic dimensions, one operation after the other."""
