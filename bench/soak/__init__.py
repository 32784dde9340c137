"""Hours under load with comings and goings: what grows and never shrinks again is found."""
