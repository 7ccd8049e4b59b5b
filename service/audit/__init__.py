"""What was done to projects and runs, by whom: read from the logs."""
