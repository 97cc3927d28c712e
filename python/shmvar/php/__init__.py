"""Values shared with PHP: its System V segments, semaphores, message queues, and its `serialize` format."""

__all__: list[str] = []
