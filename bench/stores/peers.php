<?php
// PHP's own ways to share variables, measured by PHP itself: `php -d apc.enable_cli=1 peers.php SECONDS`.
// The reference is a serialized value in an array. Stretches alternate; medians, in nanoseconds. Prints JSON.

const COUNT = 100;
$seconds = (float) $argv[1];
$examples = [
    'int' => 1000,
    'str' => str_repeat('0', 39) . '7',
    'dict' => ['id' => 1, 'name' => 'x', 'tags' => ['a', 'b'], 'score' => 0.5],
    'bytes' => str_repeat('x', 16384),
];

function median(array $some): float
{
    sort($some);
    return $some[intdiv(count($some), 2)];
}

function stretch(callable $call, int $turns): float
{
    $begin = hrtime(true);
    for ($turn = 0; $turn < $turns; $turn++) {
        $call($turn % COUNT);
    }
    return (hrtime(true) - $begin) / $turns;
}

function measure(string $store, string $kind, string $call, callable $theirs, callable $reference, float $seconds): void
{
    $turns = 500;
    $times = [];
    $plain = [];
    $ratios = [];
    $end = hrtime(true) + $seconds * 1e9;
    do {
        $times[] = $one = stretch($theirs, $turns);
        $plain[] = $other = stretch($reference, $turns);
        $ratios[] = $one / $other;
    } while (hrtime(true) < $end);
    echo json_encode([
        'store' => $store, 'test' => $kind, 'kind' => $kind, 'call' => $call,
        'ns' => median($times), 'reference ns' => median($plain), 'against reference' => median($ratios),
    ]), "\n";
}

foreach ($examples as $kind => $value) {
    $kept = array_fill(0, COUNT, serialize($value));
    $get = function (int $key) use (&$kept) { return unserialize($kept[$key]); };
    $put = function (int $key) use (&$kept, $value) { $kept[$key] = serialize($value); };
    if (function_exists('shm_attach')) {
        // A key that nobody else has, by chance; removed at the end.
        $segment = shm_attach(random_int(1 << 24, 1 << 30), COUNT * 20000 + 65536, 0600);
        for ($key = 0; $key < COUNT; $key++) {
            shm_put_var($segment, $key, $value);
        }
        try {
            $theirs = fn(int $key) => shm_get_var($segment, $key);
            measure('PHP sysvshm', $kind, 'get', $theirs, $get, $seconds);
            $theirs = fn(int $key) => shm_put_var($segment, $key, $value);
            measure('PHP sysvshm', $kind, 'put', $theirs, $put, $seconds);
        } finally {
            shm_remove($segment);
        }
    }
    if (function_exists('apcu_enabled') && apcu_enabled()) {
        $names = array_map(fn(int $key) => "k$key", range(0, COUNT - 1));
        foreach ($names as $name) {
            apcu_store($name, $value);
        }
        measure('PHP APCu', $kind, 'get', fn(int $key) => apcu_fetch($names[$key]), $get, $seconds);
        measure('PHP APCu', $kind, 'put', fn(int $key) => apcu_store($names[$key], $value), $put, $seconds);
    }
}
