"""Routing: which deployment a create goes to, what its failures mean, and whether and where it is tried again."""
