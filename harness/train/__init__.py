"""What trainers share: settings, budget enforcement, checkpoints, losses, rounds."""
