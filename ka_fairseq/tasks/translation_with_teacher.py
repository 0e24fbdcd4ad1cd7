"""``--task translation_with_teacher``: fairseq's translation with a frozen teacher."""

from fairseq.tasks.translation import TranslationConfig, TranslationTask

from ka_fairseq.tasks.frozen_teacher_task import register_task_with_teacher

TranslationWithTeacherTask = register_task_with_teacher(
    "translation_with_teacher", TranslationTask, TranslationConfig
)
