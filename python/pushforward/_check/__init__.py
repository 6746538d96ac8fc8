"""How well a flow describes rows that it was not fitted to."""
