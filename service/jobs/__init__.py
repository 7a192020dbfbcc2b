"""Jobs: what is asked for becomes a plan, is admitted or refused, runs, and survives restarts."""
