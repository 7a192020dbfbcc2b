"""Who is asking, what that allows, and who did what."""
