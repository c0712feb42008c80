"""`thalweg export`: a study's runs and curves for other programs: tables, TensorBoard, Weights & Biases, MLflow."""

from thalweg.lab.export.command import command

__all__ = ["command"]
