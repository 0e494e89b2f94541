"""The YAML file that states a comparison: its keys, how it is read, and the search that it asks for."""
