"""What a study file says: artifacts, recipes, conditions, grids, hypotheses, the study."""
