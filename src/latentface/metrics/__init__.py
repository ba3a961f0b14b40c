"""How good a result is: pure functions on pictures, networks with weights, and the table that names them all.

Pictures are float32 RGB (B, 3, H, W) in [0, 1]; a score is one number a face, (B,), unless its name says otherwise.
"""
