"""The tasks with a teacher. fairseq imports every file in the folder `tasks` of a --user-dir.

Names in code say *learner*, the paper's word for the student.
"""
