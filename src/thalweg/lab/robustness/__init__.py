"""What a study of the robustness ruleset says: plain and steered optimizers over decades of learning rate."""
