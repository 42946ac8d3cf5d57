"""Audit: what was asked, what was answered, by whom, at what cost; found, summed up and told."""
