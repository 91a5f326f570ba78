"""Run a job from cron once at a time, and notice when it did not run."""
