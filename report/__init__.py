"""Turns an analysis bundle into one self-contained HTML file."""
