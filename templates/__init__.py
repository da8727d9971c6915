"""Jinja2 templates, style sheet and script of the dossier."""
