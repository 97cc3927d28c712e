<?php
// A page that leaves work to worker.py, and shows its result.
//
//     python examples/php/worker.py                       in one terminal
//     php -S 127.0.0.1:8000 examples/php/page.php         in another one; then http://127.0.0.1:8000/?text=to+be+or+not
//     php examples/php/page.php "to be or not to be"      the same without a browser

const KEY = 0x776f726b;       // of the segment, and of its semaphore
const SIZE = 1 << 20;         // bytes, if the page comes first
const PERMISSIONS = 0660;     // page and worker run as one user, or in one group
const PATIENCE = 10.0;        // seconds

$text = PHP_SAPI === 'cli' ? ($argv[1] ?? '') : (string) ($_GET['text'] ?? '');
$result = result_of(['text' => $text]);
if ($result === null) {
    PHP_SAPI === 'cli' || http_response_code(503);
    echo "There is no answer yet: does worker.py run?\n";
    exit(1);
}
PHP_SAPI === 'cli' || header('Content-Type: text/plain; charset=utf-8');
echo isset($result['error']) ? "{$result['error']}\n" : "{$result['words']} words, the longest is {$result['longest']}\n";

/** Stores a job under a number that nobody else has, and waits for its result under the same number, negative. */
function result_of(array $job): ?array
{
    $semaphore = sem_get(KEY, 1, PERMISSIONS);
    $segment = shm_attach(KEY, SIZE, PERMISSIONS);
    $number = random_int(1, 1 << 62);

    sem_acquire($semaphore);
    $stored = shm_put_var($segment, $number, $job);
    sem_release($semaphore);
    if (!$stored) {
        return null;    // PHP has warned: not enough shared memory left
    }

    $result = null;
    $until = microtime(true) + PATIENCE;
    do {
        usleep(5_000);
        $late = microtime(true) > $until;
        sem_acquire($semaphore);
        if (shm_has_var($segment, -$number)) {
            $result = shm_get_var($segment, -$number);
            shm_remove_var($segment, -$number);
        } elseif ($late && shm_has_var($segment, $number)) {
            shm_remove_var($segment, $number);    // nobody is to work for a page that is gone
        }
        sem_release($semaphore);
    } while ($result === null && !$late);
    return $result;
}
