"""Built-in benchmarks, one package each. Their ``mini`` sets are this project's own writing in the official schemas."""
