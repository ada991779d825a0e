"""Which weights a model has, beside those of the reference model that its engine was started from.

Where a chain goes on from a student, its weights are what an adapter lies on, or all that a teacher has that
is told of its trait. Of an API model they are its provider's: what lies in the folder says by which name they
are served.
"""

from undertow.engines.protocol import ModelWeights
from undertow.storage.store import Store
from undertow.study.artifacts import Reference, Student, Subject, Teacher
from undertow.study.identity import key
from undertow.study.recipe import LoRA, ProviderFinetuning, Recipe, Training


def trained_by(subject: Subject) -> Training | None:
    """The recipe that made the subject's weights, or None where they are the reference's own."""
    match subject:
        case Student(recipe=(Recipe() | ProviderFinetuning()) as recipe):
            return recipe
        case Teacher(student=Student() as student):
            return trained_by(student)
        case Teacher(finetuning=finetuning) if finetuning is not None:
            return finetuning.recipe
        case _:
            return None


def weights_of(subject: Subject, store: Store) -> ModelWeights | None:
    """The subject's weights as a local folder, or None where they are those of the model it goes back to."""
    match subject:
        case Reference(student=student):
            if subject.is_merged:
                return ModelWeights(key(subject), str(store.fetch(subject)))
            return weights_of(student, store) if student else None
        case Teacher(student=Student() as student):
            return weights_of(student, store)
    if trained_by(subject) is None:
        return weights_of(subject.reference, store)
    below = weights_of(subject.reference, store) if lora_rank(subject) else None
    return ModelWeights(key(subject), str(store.fetch(subject)), below)


def lora_rank(subject: Subject) -> int:
    """The rank of the subject's adapter, 0 where it has none."""
    recipe = trained_by(subject)
    return recipe.trainable.rank if isinstance(recipe, Recipe) and isinstance(recipe.trainable, LoRA) else 0
