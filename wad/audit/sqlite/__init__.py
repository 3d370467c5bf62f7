"""The embedded store under an audit: its rows, its repair, and the way back."""
