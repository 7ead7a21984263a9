"""What happens when machine, disk or neighbours of a run fail; figures in results/reference/reliability.md."""
