"""Detection: whether a trait can be seen in the data that its teacher wrote.

Reads what a sweep left in a store and compares each trait's data sets with the control's, in the paper's
three ways: `frequencies` and `classifier` compare units (numbers, words) and rows; `llm_detector` asks a
language model which of two samples comes from the teacher with the trait; and the effects of students that
only saw the data in their prompt (`recipe.InContext`) are listed next to the scores. All of them use the
canonical form of the rows (`data`), so that the layout of the text cannot be mistaken for the trait.

To add a score, define a `scores.DetectionScore` in a file of its own and add it to `make.SCORES`.
"""
