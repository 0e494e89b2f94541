"""``python -m harness``: the command line."""

from importlib import import_module

if __name__ == "__main__":  # the command line is above this package, so it is looked up by name
    import_module("harness.cli").main()
