"""The same work, done by other schedulers and by designs of old."""
