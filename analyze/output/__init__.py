"""How an analysis is told: JSON, a bundle of tables, a terminal, Markdown."""
