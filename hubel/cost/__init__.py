"""What a network costs before it runs: its work, its memory, and what each layer sees."""
