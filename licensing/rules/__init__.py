"""What is allowed: values and pure decisions. Nothing here reads a clock, a file or the network."""
