"""Result files and their statistics: estimators, intervals, verdicts."""
