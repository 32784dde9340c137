"""Others who carry streams to viewers, under the load that ours gets, in one run, on one machine."""
