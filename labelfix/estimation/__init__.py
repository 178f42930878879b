"""Estimation: from predictions to verdicts, labels and probabilities only; imports nothing of labelfix but errors."""
