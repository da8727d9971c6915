"""The forms in which an analysis is shown or written: JSON, a bundle of tables, a terminal, Markdown."""
