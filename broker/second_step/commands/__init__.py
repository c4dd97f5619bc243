"""What a force asks for after a search: one module for each kind of request."""
