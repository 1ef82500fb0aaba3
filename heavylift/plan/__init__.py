"""The plan: every `auto` of a model file answered once, with the arithmetic."""
