"""How a flow is fitted: options, the loop, what a step minimises, and checkpoints."""
