<?php
// PHP's side of bench/php_segment.py: `php php_segment.php KEY SIZE`. Reads a line of JSON for each stretch, makes the
// calls, and answers with nanoseconds of one call. The segment is its own, and goes at the end of the input.

[, $key, $size] = $argv;
$segment = shm_attach((int) $key, (int) $size, 0600);
$values = ['int' => 42, 'str' => str_repeat('x', 41), 'array' => range(0, 99)];

while (($line = fgets(STDIN)) !== false) {
    [$call, $kind, $indexes, $calls] = json_decode($line, true);
    $value = $values[$kind];
    $begin = hrtime(true);
    if ($call === 'fill') {
        foreach ($indexes as $index) {
            shm_put_var($segment, $index, $value);
        }
    } elseif (count($indexes) > 1) {
        if ($call === 'get') {
            foreach ($indexes as $index) {
                shm_get_var($segment, $index);
            }
        } else {
            foreach ($indexes as $index) {
                shm_put_var($segment, $index, $value);
            }
        }
    } else {
        [$index] = $indexes;
        if ($call === 'get') {
            for ($turn = 0; $turn < $calls; $turn++) {
                shm_get_var($segment, $index);
            }
        } elseif ($call === 'put') {
            for ($turn = 0; $turn < $calls; $turn++) {
                shm_put_var($segment, $index, $value);
            }
        } elseif ($call === 'has') {
            for ($turn = 0; $turn < $calls; $turn++) {
                shm_has_var($segment, $index);
            }
        } else {
            for ($turn = 0; $turn < $calls; $turn++) {
                shm_put_var($segment, $index, $value);
                shm_remove_var($segment, $index);
            }
        }
    }
    echo (hrtime(true) - $begin) / $calls, "\n";
}
shm_remove($segment);
