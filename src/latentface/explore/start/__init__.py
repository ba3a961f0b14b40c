"""Where a search begins: near a face of a bank, or near an encoder's answer."""
