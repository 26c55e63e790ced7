"""Load clients under test: ours, a bare socket reader, and those that people use today."""
