"""The paper's figures, drawn from run directories: which runs they need, which there are, and what they show."""
