"""What each command takes and prints. The work is done in the stages, which a command imports when it runs."""
