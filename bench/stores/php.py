"""PHP's own functions, measured by PHP: sysvshm, and APCu, which only processes of one PHP server share."""

import json
import shutil
import subprocess
from pathlib import Path

NAMES = {"PHP sysvshm": "apt install php-cli", "PHP APCu": "apt install php-cli php-apcu"}
SECONDS = {"full": 0.5, "quick": 0.1, "smoke": 0.001}


def measure(effort: str) -> tuple[dict[str, list[dict]], dict[str, str]]:
    """What was found of each, and of those that are not there, how to install them."""
    php, found = shutil.which("php"), dict[str, list[dict]]()
    if php is not None:
        script = Path(__file__).with_name("peers.php")
        command = [php, "-d", "apc.enable_cli=1", "-d", "apc.shm_size=64M", script, str(SECONDS[effort])]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        for line in done.stdout.splitlines():
            row = json.loads(line)
            found.setdefault(row.pop("store"), []).append(row)
    return found, {name: how for name, how in NAMES.items() if name not in found}


def version() -> str:
    done = subprocess.run(["php", "-r", "echo PHP_VERSION;"], capture_output=True, text=True, check=False)
    return f"PHP {done.stdout}"
