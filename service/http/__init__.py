"""HTTP itself, below the routes: connections, limits of requests, bodies, ranges, responses."""
