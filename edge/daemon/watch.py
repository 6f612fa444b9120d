"""What ends the daemon in order rather than let it go on badly: a thread that hangs, memory that grows."""

from edge.daemon.pipeline import Worker
from edge.errors import MemoryFull, ThreadStuck
from edge.system.machine import resident_mb


def check_alive(*workers: Worker) -> None:
    """Raise for a worker that broke its promise of a sign of life.

    Raises:
        ThreadStuck: naming the thread.
    """
    for worker in workers:
        if worker.overdue:
            raise ThreadStuck(f"the {worker.name} thread has shown no sign of life in time; restart the daemon")


def check_memory(most_mb: float | None) -> None:
    """Raise when this process holds more than so many megabytes; null: it may hold what it likes.

    Raises:
        MemoryFull: with both figures.
    """
    held = resident_mb()
    if most_mb is not None and held > most_mb:
        raise MemoryFull(
            f"power.max_rss: {held:.0f} MB are held, {most_mb:g} MB are allowed; stopping, so that a clean process can"
            " start. Where that happens soon after every start, allow more"
        )
