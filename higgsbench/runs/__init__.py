"""Floor 4: plan of work units, execution, the store on disk, resume."""
