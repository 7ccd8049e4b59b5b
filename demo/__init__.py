"""The demo: pictures of animals and foods on coloured backgrounds, a small model that learns to draw them, and its scores."""
