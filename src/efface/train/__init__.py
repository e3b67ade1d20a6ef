"""The training loops: one for language models, one for ordinary nets. Plain fine-tuning is an objective like any other."""
