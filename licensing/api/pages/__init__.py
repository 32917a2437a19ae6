"""Pages for people, without requests to other sites."""
