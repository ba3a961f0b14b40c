"""Everything that touches a file: pictures, where they come from, where results go."""

PIPE = "standard input or output"  # what `-` is inside: a word of the command line that begins so is an option
