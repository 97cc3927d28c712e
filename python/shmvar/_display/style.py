"""The style sheet of every display.

It begins with the class of our own, so it touches nothing else on the page, and it may stand there several times. The
colours are the page's: JupyterLab's and VS Code's variables, and elsewhere what the page has for text and background.
(`Canvas` is the background of a page, dark where the page says that it is. A page that stays white while the system is
dark must not get dark cells, so what the system prefers counts only where the page follows it.) A class that is named
twice counts for more than the rules of notebooks for all of their HTML: JupyterLab makes all columns of a table equally
wide, and gives `code` a ground of its own.
"""

SHEET = (
    ".shmvar{--sv-line:var(--jp-border-color2,var(--vscode-widget-border,rgba(128,128,128,.35)));"
    "--sv-back:var(--jp-layout-color0,var(--vscode-editor-background,Canvas));"
    "color:var(--jp-content-font-color1,var(--vscode-foreground,inherit));"
    "font-size:13px;line-height:1.5;max-width:100%}"
    ".shmvar code{background:none!important;color:inherit;padding:0!important;font-family:var(--jp-code-font-family,"
    "var(--vscode-editor-font-family,monospace));font-size:12px;white-space:pre}"
    ".shmvar .sv-line{margin:0 0 4px;overflow-wrap:anywhere}"
    ".shmvar .sv-key code{font-size:14px;font-weight:600;white-space:pre-wrap}"
    ".shmvar .sv-badge{font-size:11px}"
    ".shmvar .sv-box{border:1px solid var(--sv-line);border-radius:4px;margin:4px 0}"
    ".shmvar .sv-bar,.shmvar .sv-map span{forced-color-adjust:none}"
    ".shmvar table.sv-table,.shmvar table.sv-facts{border-collapse:collapse;margin:0;font-size:12px;border:0;"
    "color:inherit}"
    ".shmvar table.sv-table{width:100%;table-layout:auto}"
    ".shmvar .sv-table th,.shmvar .sv-table td,.shmvar .sv-facts th,.shmvar .sv-facts td{padding:2px 8px;"
    "border:0;max-width:34em;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;vertical-align:baseline;"
    "line-height:1.5}"
    ".shmvar .sv-facts th,.shmvar .sv-facts td{text-align:left;padding:1px 14px 1px 0;white-space:normal}"
    ".shmvar .sv-facts th{font-weight:500;opacity:.8;white-space:nowrap}"
    ".shmvar .sv-table thead th{position:sticky;top:0;background:var(--sv-back);font-weight:600;"
    "box-shadow:inset 0 -1px 0 var(--sv-line)}"
    ".shmvar .sv-table td:last-child{width:60%;max-width:10em}"  # it gets what the others leave, and is cut
    ".shmvar .sv-table tbody tr,.shmvar .sv-table tbody tr:nth-child(odd),.shmvar .sv-facts tbody tr,"
    ".shmvar .sv-facts tbody tr:nth-child(odd){background:none}"
    ".shmvar .sv-table tbody tr:nth-child(even){background:rgba(128,128,128,.08)}"
    ".shmvar .sv-table tbody tr:hover{background:rgba(128,128,128,.16)}"
)
