"""Search of a declared space of configs under a budget."""
