"""Training and fine-tuning of the models: the only place where their weights change."""
