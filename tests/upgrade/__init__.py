"""State that older programs wrote, and what becomes of it."""
