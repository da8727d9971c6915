"""From an analysis bundle to one self-contained HTML file."""
