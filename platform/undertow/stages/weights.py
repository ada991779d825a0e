"""The weights of a model that differ from the reference model that its engine has loaded.

In a chain, a student's weights may be the base of the next adapter or of the next trained tensors, or those
of a prompted teacher. For an API model the artifact's folder holds no weights but the name under which the
provider serves them.
"""

from undertow.engines.protocol import ModelWeights
from undertow.engines.weight_files import STEP_FOLDER, has_only_trained_tensors
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.study.recipe import LoRA, ProviderFinetuning, Recipe, Training
from undertow.study.references import Reference
from undertow.study.steering import ProjectedOut
from undertow.study.students import Student, Subject
from undertow.study.teachers import Teacher

Trained = Student | Teacher  # the subjects that a worker group or a provider may train
Checked = Trained | ProjectedOut  # what has rows by which an engine is checked


def start_of(model: Trained | ProjectedOut) -> Reference:
    """The model whose weights a training of a teacher or student starts from."""
    return model.start if isinstance(model, Student) else model.reference


def trained_by(subject: Subject) -> Training | None:
    """The recipe that made the subject's weights, or None if they are the reference model's own."""
    match subject:
        case Student(recipe=(Recipe() | ProviderFinetuning()) as recipe):
            return recipe
        case Teacher(student=Student() as student):
            return trained_by(student)
        case Teacher(finetuning=finetuning) if finetuning is not None:
            return finetuning.recipe
        case _:
            return None


def weights_of(subject: Subject, store: Store, step: int | None = None) -> ModelWeights | None:
    """The subject's weights as a local folder, or None if they are those of its root reference model.

    An adapter, or trained tensors, that started from another student's weights have those as their `base`.

    Args:
        step: of a student: the kept step of its training whose weights are wanted (`Recipe.keep_steps`).
    """
    match subject:
        case Reference(student=student):
            if subject.is_merged:
                return ModelWeights(key(subject), str(store.fetch(subject)))
            return weights_of(student, store) if student else None  # only adapters are merged
        case Teacher(student=Student() as student):
            return weights_of(student, store)
        case Teacher(steering=steering) if steering is not None:
            return ModelWeights(key(steering), str(store.fetch(steering)))
    if trained_by(subject) is None:
        return weights_of(start_of(subject), store)
    folder, name = store.fetch(subject), key(subject)
    if step is not None:
        folder, name = folder / STEP_FOLDER.format(step), f"{name}-{step}"
    is_part = lora_rank(subject) > 0 or has_only_trained_tensors(folder)
    below = weights_of(start_of(subject), store) if is_part else None
    return ModelWeights(name, str(folder), below)


def trained_model(subject: Subject) -> Trained | None:
    """The student or teacher whose training made the weights of `weights_of`; None for a root reference's."""
    match subject:
        case Reference(student=student) | Teacher(student=Student() as student):
            return student
    if trained_by(subject) is None:
        return trained_model(start_of(subject))
    return subject


def checked_by(subject: Subject) -> Checked | None:
    """The artifact with the rows by which an engine is shown to serve the subject, if there is one."""
    if isinstance(subject, Teacher) and isinstance(subject.steering, ProjectedOut):
        return subject.steering
    return trained_model(subject)


def lora_rank(subject: Subject) -> int:
    """The rank of the subject's adapter; 0 without an adapter."""
    recipe = trained_by(subject)
    return recipe.trainable.rank if isinstance(recipe, Recipe) and isinstance(recipe.trainable, LoRA) else 0
