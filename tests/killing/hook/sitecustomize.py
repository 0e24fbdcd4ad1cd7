"""Imported by each Python that starts with this folder on its path; see tests/killing."""

import logging
import os
import re
import resource
import signal
import sys

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def kill(*_):
    """The whole group, as a cluster's scheduler or a lack of memory does it."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def program():
    """What runs, and in which configuration: a stage of the pipeline, for instance."""
    words = sys.orig_argv
    before = ("-m", "quick_start.py", "--config-name")
    return "/".join(words[n + 1] for n, word in enumerate(words[:-1]) if word.endswith(before))


class Watch:
    """Names what happens below a folder, and acts on one of the names."""

    def __init__(self, folder, trace, event, size):
        self.folder = f"{folder}{os.sep}"
        self.trace = trace
        self.event = event
        self.size = size
        self.updates = ""

    def audit(self, name, args):
        if name == "open" and isinstance(args[0], (str, bytes)) and (args[2] or 0) & WRITES:
            self.file("write", args[0])
        elif name == "os.rename":
            self.file("rename", args[0])

    def file(self, what, path):
        path = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  resolve() would open folders
        if path.startswith(self.folder):
            inside = re.sub("[.][0-9]+$", "", path.removeprefix(self.folder))  # a process's number
            self.happens(f"{what} {inside}{self.updates}")

    def log(self, record):
        source = f"log {program()} {record.name}"
        updates = re.search(r'num_updates": "(\d+)"', record.getMessage())
        if updates:
            self.updates = f" @{updates[1]}"
            self.happens(source + self.updates)
        else:
            message = record.getMessage().replace(self.folder, "")  # which differs between runs
            self.happens(f"{source} " + re.sub(r"[\d\W]+", " ", message)[:40])

    def happens(self, event):
        if self.trace:
            line = os.fsencode(f"{event}\n".replace(self.folder, ""))
            descriptor = os.open(self.trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, line)
            os.close(descriptor)
        if event == self.event:
            if not self.size:
                kill()
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


def start(environ):
    watch = Watch(
        environ["KILLING_FOLDER"],
        environ.get("KILLING_TRACE"),
        environ.get("KILLING_EVENT"),
        int(environ.get("KILLING_BYTES", 0)),
    )
    signal.signal(signal.SIGXFSZ, kill)  # sent where a file would grow beyond the limit
    sys.addaudithook(watch.audit)
    make = logging.Logger.makeRecord

    def make_record(*args, **kwargs):
        record = make(*args, **kwargs)
        watch.log(record)
        return record

    logging.Logger.makeRecord = make_record


if "KILLING_FOLDER" in os.environ:
    start(os.environ)
