"""What happens to a run when its machine, its disk or its neighbours fail; figures in results/reference/reliability.md."""
