"""Everything that touches a file: pictures, where they come from, where results go."""
