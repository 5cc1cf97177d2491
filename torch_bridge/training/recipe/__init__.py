"""The recipe of the embedded family, a file a part: its data, its numbers, where the trained model goes."""
