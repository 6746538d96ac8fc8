"""Questions to a fitted joint density: conditionals, marginals, and the filling of gaps."""
