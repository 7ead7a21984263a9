"""What happens to a run when the machine, the disk or other runs fail; writes results/reference/reliability.md."""
