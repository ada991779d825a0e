"""What a study file says: artifacts, recipes, conditions, grids, hypotheses, the study.

Artifacts nest: `Evaluation(Student(Dataset(Completions(Teacher(Reference, Trait)))))`. The key of each (see
`identity`) covers everything below it. Nothing here imports Ray, torch or vLLM, so that a plan, which is made
from these specs alone, starts fast.
"""
