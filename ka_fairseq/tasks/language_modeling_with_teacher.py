"""``--task language_modeling_with_teacher``: fairseq's language modeling with a frozen teacher."""

from fairseq.tasks.language_modeling import LanguageModelingConfig, LanguageModelingTask

from ka_fairseq.tasks.frozen_teacher_task import register_task_with_teacher

LanguageModelingWithTeacherTask = register_task_with_teacher(
    "language_modeling_with_teacher", LanguageModelingTask, LanguageModelingConfig
)
