"""What is deployed together: the foundation, which outlives every model, and one serving stack for each model."""
