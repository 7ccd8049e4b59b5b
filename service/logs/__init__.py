"""What the processes of a run print, over HTTP: whole, or live."""
