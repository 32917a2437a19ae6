"""HTTP: validation, routes and the pages they serve."""
