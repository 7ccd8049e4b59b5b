"""Runs on Kubernetes: what is rendered, how it is applied and watched. Knows nothing of databases, HTTP or torch."""
