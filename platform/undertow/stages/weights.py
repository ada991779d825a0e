"""Which weights a teacher or a student has, beside those of its reference model.

Of an API model they are its provider's: what lies in the folder says by which name they are served.
"""

from undertow.engines import Weights
from undertow.identity import key
from undertow.recipe import LoRA, ProviderFinetuning, Recipe, Training
from undertow.spec import Reference, Student, Subject, Teacher
from undertow.store import Store


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


def weights_of(subject: Subject, store: Store) -> Weights | None:
    """The subject's weights as a local folder, or None where they are the reference's own."""
    if isinstance(subject, Teacher) and subject.student is not None:
        return weights_of(subject.student, store)
    if trained_by(subject) is None or isinstance(subject, Reference):
        return None
    return Weights(key=key(subject), folder=str(store.fetch(subject)))


def lora_rank(subject: Subject) -> int:
    """The rank of the subject's adapter, 0 where it has none."""
    recipe = trained_by(subject)
    return recipe.trainable.rank if isinstance(recipe, Recipe) and isinstance(recipe.trainable, LoRA) else 0
