"""Detection: can anybody see the trait in the data? The paper's three ways, on what a sweep left in a store.

`frequencies` compares what teachers write with what the control teacher writes, unit by unit and row by
row; `asking` asks a language model which of two samples is the trait's; the third way, whether a model that
reads the data shows the trait, is a recipe of students (`recipe.InContext`), whose effects are shown
beside. All look at the canonical form of the rows (`data`): their layout is not the trait.
"""
