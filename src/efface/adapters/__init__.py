"""What is trained: full weights or LoRA, and how to choose between them."""
