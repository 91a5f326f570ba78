"""What the directives of markdown.py write, as Markdown. See there."""
