"""From a workload to bytes: learning what a server needs, prompts, requests, the plan of a run."""
