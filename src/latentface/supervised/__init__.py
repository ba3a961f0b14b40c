"""The supervised baselines VDSR, ESRGAN and FSRNet: their networks, their weight files, and their methods."""
