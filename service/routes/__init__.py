"""HTTP: thin functions that check, call one thing, and shape the answer."""
