"""What serving and load over Ray have in common: joining a cluster that runs already, and leaving
nothing in it.

This process never becomes a driver of Ray: a driver is ended by Ray when the cluster's head is
gone, and a call into Ray may wait for ever. :class:`.join.Cluster` is our end of a child process
that is one (:mod:`.member`); every call to it has a time limit.
"""
