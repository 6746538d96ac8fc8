"""What `Flow` inherits: calls on points and fits."""
