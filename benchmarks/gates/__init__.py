"""How often the gates err: the shipped rules of decision, played on simulated launches."""
