"""HTTP: parse, call the domain, render. Nothing imports this but the composition root."""
