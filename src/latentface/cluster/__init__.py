"""Many machines: the faces of many pictures spread over the workers of a Ray cluster."""
