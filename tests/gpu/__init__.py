"""The check of the GPU path: ``python tests/gpu/gpu_check.py`` (docs/gpu.md)."""
