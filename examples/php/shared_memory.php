<?php
// Sends a value to any other process, by number: to another run of this program, or to shared_memory.py beside it.
//
//     php examples/php/shared_memory.php send 1 "Hello, world"
//     php examples/php/shared_memory.php get 1
//     php examples/php/shared_memory.php delete 1        one variable
//     php examples/php/shared_memory.php delete          the whole segment; its semaphore stays, for others may be waiting

const KEY = 987654;
const SIZE = 1024;
const PERMISSIONS = 0666;
const USAGE = <<<TEXT
Usage: shared_memory.php send <integer identifier> <value>
       shared_memory.php get <integer identifier>
       shared_memory.php delete [<integer identifier>]

TEXT;

exit(main(array_slice($argv, 1)));

function main(array $arguments): int
{
    $action = array_shift($arguments);
    $identifier = filter_var($arguments[0] ?? '0', FILTER_VALIDATE_INT);
    if ($identifier === false) {
        return usage();
    }
    // Nobody else may be in the middle of a change: a segment of PHP's has no lock of its own.
    $semaphore = sem_get(KEY, 1, PERMISSIONS);
    sem_acquire($semaphore);
    $segment = shm_attach(KEY, SIZE, PERMISSIONS);
    return match ([$action, count($arguments)]) {
        ['send', 2] => send($segment, $identifier, $arguments[1]),
        ['get', 1] => get($segment, $identifier),
        ['delete', 1] => delete($segment, $identifier),
        ['delete', 0] => delete_all($segment),
        default => usage(),
    };
}

function usage(): int
{
    fwrite(STDERR, USAGE);
    return 2;
}

function send(SysvSharedMemory $segment, int $identifier, string $value): int
{
    if (!@shm_put_var($segment, $identifier, $value)) {
        fwrite(STDERR, error_get_last()['message'] . "\n");    // an old value is gone now, too
        return 1;
    }
    echo "Message sent to shared memory segment.\n";
    return 0;
}

function get(SysvSharedMemory $segment, int $identifier): int
{
    if (!shm_has_var($segment, $identifier)) {
        return missing($identifier);
    }
    echo 'Received data: ', shm_get_var($segment, $identifier), "\n";
    return 0;
}

function delete(SysvSharedMemory $segment, int $identifier): int
{
    if (!shm_has_var($segment, $identifier)) {
        return missing($identifier);
    }
    shm_remove_var($segment, $identifier);
    echo "Shared memory segment content deleted.\n";
    return 0;
}

function delete_all(SysvSharedMemory $segment): int
{
    shm_remove($segment);
    echo "Shared memory segment content deleted.\n";
    return 0;
}

function missing(int $identifier): int
{
    fwrite(STDERR, "There is nothing under $identifier.\n");
    return 1;
}
