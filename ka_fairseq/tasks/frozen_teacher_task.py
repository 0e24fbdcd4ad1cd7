"""Give a frozen teacher to a fairseq task."""

# fairseq makes command-line options from real types of the form Optional[...]: neither
# `str | None` nor annotations as strings (from __future__ import annotations) are understood.
# ruff: noqa: UP045

from dataclasses import dataclass, field, make_dataclass
from typing import Any, Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import FairseqTask, register_task

from ka_fairseq.errors import UserError
from ka_fairseq.teacher import FrozenTeacher


@dataclass
class FrozenTeacherConfig(FairseqDataclass):
    """The options that a task gains with its teacher."""

    teacher_path: Optional[str] = field(
        default=None,
        metadata={
            "help": "checkpoint of the trained teacher; several, separated by colons, form an "
            "ensemble whose probabilities are averaged"
        },
    )
    teacher_dtype: Optional[str] = field(
        default=None,
        metadata={"help": "precision of the teacher: fp32, fp16 or bf16 (default: the learner's)"},
    )
    teacher_data: Optional[str] = field(
        default=None,
        metadata={
            "help": "folder with the teacher's dict.LANG.txt (default: the checkpoint's folder, "
            "then the data folder that the checkpoint names)"
        },
    )


class FrozenTeacherTask:
    """Mix-in for a task class; the teacher hangs on the task.

    A criterion that needs the teacher calls :meth:`load_teacher` when it is built: after the task,
    before any training. fairseq-generate and fairseq-interactive build no criterion and so never
    load a teacher. No state of the task or the criterion contains it.
    """

    teacher: Optional[FrozenTeacher] = None

    def load_teacher(self) -> None:
        """Load and check the teacher, once.

        Raises:
            UserError: no ``teacher_path``, or a teacher that does not fit; see
                :meth:`FrozenTeacher.load`.
        """
        if self.teacher is not None:
            return
        if not self.cfg.teacher_path:
            raise UserError(
                "the criterion needs a teacher: pass --teacher-path teacher.pt (or "
                "--transfer-weight 0 to train without one)"
            )
        self.teacher = FrozenTeacher.load(
            self.cfg.teacher_path, self, self.cfg.teacher_dtype, self.cfg.teacher_data
        )


def register_task_with_teacher(
    name: str, task_class: type[FairseqTask], config_class: type[FairseqDataclass]
) -> type[FairseqTask]:
    """Register ``task_class`` once more, as ``name``, with a frozen teacher and its options.

    Args:
        name: what ``--task`` calls it.
        task_class: the fairseq task to extend.
        config_class: its dataclass.

    Returns:
        The new task class.
    """
    class_name = "".join(part.title() for part in name.split("_")) + "Task"
    config = make_dataclass(f"{class_name}Config", [], bases=(config_class, FrozenTeacherConfig))
    members: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": f"{task_class.__name__} with a frozen teacher beside the learner.",
    }
    return register_task(name, dataclass=config)(
        type(class_name, (FrozenTeacherTask, task_class), members)
    )
