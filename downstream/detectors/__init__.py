"""One file per detector library: the only imports of each."""
