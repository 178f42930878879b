"""Results: what a run leaves in its folder, written and read; imports training and what training imports."""
