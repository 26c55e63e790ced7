"""What users declare: workloads, their presets and rules, files of requests, arrivals."""
