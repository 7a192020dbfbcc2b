"""Pictures of what is stored: heat maps of matrices from the previews of their tiles, and plots."""
