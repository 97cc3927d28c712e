"""Real PHP: programs that run in it, a process that evaluates what it is told, and values to it and back.

No value goes through the code under test: numbers, text, bytes, lists and dicts travel as JSON, floats bit for bit.
"""

import base64
import contextlib
import json
import os
import shutil
import struct
import subprocess
import textwrap

from helpers.machine import SLOWER

EXTENSIONS = ("sysvshm", "sysvsem", "sysvmsg", "shmop")
OPTIONS = ("display_errors=stderr", "error_reporting=-1", "log_errors=0", "html_errors=0", "memory_limit=1G")


def available():
    """Is there a PHP with everything that the tests use?"""
    program = shutil.which("php")
    if program is None:
        return False
    done = subprocess.run([program, "-m"], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode == 0 and set(EXTENSIONS) <= set(done.stdout.split())


def command(code, *args):
    """The command line of a PHP program; its arguments are `$argv[1]`, `$argv[2]`, …"""
    options = [word for option in OPTIONS for word in ("-d", option)]
    return ["php", *options, "-r", textwrap.dedent(code), "--", *map(str, args)]


def run(code, *args, timeout=60, check=True, prefix=(), **options):
    """Runs a PHP program to its end; returns the finished process, whose output is text."""
    done = subprocess.run(
        [*prefix, *command(code, *args)],
        capture_output=True,
        text=True,
        timeout=timeout * SLOWER,
        check=False,
        **options,
    )
    if check:
        assert done.returncode == 0 and not done.stderr, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def start(code, *args, prefix=(), **options):
    """Starts a PHP program; waits until it prints its first line, `said`."""
    child = subprocess.Popen(
        [*prefix, *command(code, *args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    )
    child.said = child.stdout.readline().strip()
    assert child.said, f"PHP ended with {child.wait(10)}"
    return child


SERVE = r"""
function _out($v) {
    if (is_float($v)) return ['f' => bin2hex(pack('E', $v))];
    if (is_string($v)) return mb_check_encoding_($v) ? $v : ['b' => base64_encode($v)];
    if (is_object($v)) return ['o' => get_class($v)];
    if (!is_array($v)) return $v;
    if (array_is_list($v)) return array_map('_out', $v);
    return ['m' => array_map(null, array_map('_out', array_keys($v)), array_map('_out', array_values($v)))];
}
function mb_check_encoding_($s) { return preg_match('//u', $s) === 1; }
function _in($v) {
    if (!is_array($v)) return $v;
    if (array_is_list($v)) return array_map('_in', $v);
    if (isset($v['f'])) return unpack('E', hex2bin($v['f']))[1];
    if (isset($v['b'])) return base64_decode($v['b']);
    $made = [];
    foreach ($v['m'] as [$key, $value]) $made[_in($key)] = _in($value);
    return $made;
}
$_warnings = [];
set_error_handler(function ($level, $text) {
    global $_warnings;
    if (error_reporting() & $level) $_warnings[] = $text;
    return true;
});
while (($_line = fgets(STDIN)) !== false) {
    [$_code, $a] = json_decode($_line, true, 100000, JSON_THROW_ON_ERROR);
    $a = _in($a);
    $_warnings = [];
    $_answer = [];
    try {
        $_answer['value'] = _out(eval($_code));
    } catch (Throwable $_thrown) {
        $_answer['thrown'] = [get_class($_thrown), $_thrown->getMessage()];
        unset($_thrown);
    }
    $_answer['warnings'] = array_map('_out', $_warnings);
    echo json_encode($_answer, JSON_THROW_ON_ERROR, 100000), "\n";
    unset($_answer, $a);
}
"""


class Thrown(Exception):
    """What PHP threw: `kind` is its class, `text` its message."""

    def __init__(self, kind, text):
        super().__init__(f"{kind}: {text}")
        self.kind, self.text = kind, text


class Process:
    """A PHP process that evaluates what it is told, one piece of code after another.

    `php('return $a[0] + 1;', 2)` is 3: `$a` holds the arguments, and other variables stay from call to call. A warning
    that no `@` silences is a failure, except in `warned`, which returns the value and the texts of the warnings. What
    PHP throws is raised as `Thrown`. Arrays with keys 0, 1, 2, … come as lists, others as dicts; text that is no UTF-8
    comes as bytes. Objects cannot be returned (only their class is told): let PHP serialize them.
    """

    def __init__(self, prefix=(), **options):
        self.process = subprocess.Popen(
            [*prefix, *command(SERVE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
        )

    def __call__(self, code, *args):
        value, warnings = self.warned(code, *args)
        assert not warnings, f"PHP warned: {warnings}"
        return value

    def warned(self, code, *args):
        self.send(code, *args)
        return self.receive()

    def send(self, code, *args):
        """Sends a piece of code and does not wait for its answer, which `receive` gets."""
        self.process.stdin.write(json.dumps([textwrap.dedent(code), to_php(list(args))]) + "\n")
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline()
        assert line, f"PHP ended with status {self.process.wait(10)}"
        answer = json.loads(line)
        if "thrown" in answer:
            raise Thrown(*answer["thrown"])
        return from_php(answer["value"]), answer["warnings"]

    @property
    def pid(self):
        return self.process.pid

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(20 * SLOWER)
        finally:
            self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20 * SLOWER)
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def to_php(value):
    """A value in the JSON that `Process` sends."""
    if isinstance(value, float):
        return {"f": struct.pack(">d", value).hex()}
    if isinstance(value, bytes | bytearray):
        return {"b": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {"m": [[to_php(key), to_php(content)] for key, content in value.items()]}
    if isinstance(value, list | tuple):
        return [to_php(content) for content in value]
    assert value is None or isinstance(value, bool | int | str), f"PHP cannot be sent {value!r}"
    return value


def from_php(value):
    if isinstance(value, list):
        return [from_php(content) for content in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "f":
        return struct.unpack(">d", bytes.fromhex(content))[0]
    if kind == "b":
        return base64.b64decode(content)
    if kind == "m":
        return {from_php(key): from_php(inner) for key, inner in content}
    raise AssertionError(f"PHP returned an object of {content}: serialize it there")


def version():
    """PHP's version, as (8, 2, 36)."""
    return tuple(
        map(int, run("echo PHP_MAJOR_VERSION, ' ', PHP_MINOR_VERSION, ' ', PHP_RELEASE_VERSION;").stdout.split())
    )


def as_user(uid):
    """The beginning of a command line that runs as another user."""
    return ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups") if uid != os.geteuid() else ()
