"""A picture in, a picture out: jobs are made of aligned faces and photographs, explored in common, and put back."""
