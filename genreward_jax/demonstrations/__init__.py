"""Episodes of Meta-World's scripted experts, and of others that fail, as captioned videos for training models."""
