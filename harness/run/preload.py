"""What the fork server imports once for all run processes. Imports only: no model, no thread."""

import gc

import accelerate  # noqa: F401
import datasets  # noqa: F401
import peft  # noqa: F401
import torch  # noqa: F401
import transformers  # noqa: F401
import trl  # noqa: F401

import harness.run.process  # noqa: F401
import sail.trainer  # noqa: F401

gc.freeze()  # what is imported lives as long as the process: a run that collects garbage need not look at it
