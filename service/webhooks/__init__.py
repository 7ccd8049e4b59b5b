"""Projects are told of their events by signed HTTP requests."""
