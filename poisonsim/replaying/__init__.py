"""What a fleet's own errors would have done under each policy: hosts of a log as histories of their VMs."""
