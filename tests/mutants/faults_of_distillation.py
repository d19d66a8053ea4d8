"""Faults of teachers, students, and what they are compared by."""

from tests.mutants.fault import Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        "attention-to-other-texts-matched",
        "jaxft/losses/matches.py",
        "return texts.together[:, None] & seen",
        "return seen",
        "In a packed row, the scores of attention between different texts are compared, too.",
    ),
    Fault(
        "relations-scaled-by-all-heads",
        "jaxft/losses/matches.py",
        "products * x.shape[-1] ** -0.5",
        "products * (x.shape[-1] * heads) ** -0.5",
        "Relations of MiniLMv2 are flatter the more relation heads there are.",
    ),
    Fault(
        "layer-map-off-by-one",
        "jaxft/step/layer_maps.py",
        "(2 * i * teacher + student) // (2 * student)",
        "(2 * i * teacher + student) // (2 * student) - 1",
        "A uniform map compares each layer with the one below the teacher's.",
    ),
    Fault(
        "weights-of-teachers-ignored",
        "jaxft/run/teachers.py",
        "weights = own.teacher_weights or [1.0] * len(teachers)",
        "weights = [1.0] * len(teachers)",
        "distill.teacher_weights changes nothing.",
    ),
    Fault(
        "damaged-teacher-outputs-used",
        "jaxft/teacher_cache/store.py",
        "if checksums.of_part(opened[name], end - begin).hexdigest() != digest:",
        "if False:",
        "Outputs of a teacher that were damaged on the disk are learnt from.",
    ),
    Fault(
        "outputs-of-another-teacher-used",
        "jaxft/teacher_cache/identity.py",
        'ESSENTIAL = ("format", "software", "teacher", "texts", "settings")',
        'ESSENTIAL = ("format", "software", "texts", "settings")',
        "A run finds the outputs of another teacher for the same texts, and learns from them.",
    ),
    Fault(
        "rest-of-the-logits-too-likely",
        "jaxft/step/cached_teacher.py",
        "axis=-1) - np.log(others)",
        "axis=-1)",
        "With distill.keep_logits each label that is not kept has the probability of all of them.",
    ),
    Fault(
        "uniform-layers-without-the-last",
        "jaxft/models/student.py",
        "np.linspace(0, count - 1, number)",
        "np.linspace(0, count - 1, number, endpoint=False)",
        "A student of uniform layers lacks the last one, on which the head was trained.",
    ),
    Fault(
        "labels-of-unlabelled-data-read",
        "jaxft/run/teacher_labels.py",
        'return not (config.distill.unlabelled and split == "train")',
        "return True",
        "With distill.unlabelled a file without labels is refused.",
    ),
    Fault(
        "teacher-with-other-labels-accepted",
        "jaxft/run/teachers.py",
        "len(model.labels) == len(student.labels) and are_generic(model.labels)",
        "len(model.labels) == len(student.labels) or are_generic(model.labels)",
        "A teacher that has as many labels in another order is taken, and teaches the wrong ones.",
    ),
    Fault(
        "temperature-not-squared",
        "jaxft/step/distillation.py",
        "used = replace(used, weights=used.weights * temperature**2)",
        "used = replace(used, weights=used.weights * temperature)",
        "At temperature T the soft loss of distillation weighs only 1 / T of what distill.alpha says.",
    ),
)
