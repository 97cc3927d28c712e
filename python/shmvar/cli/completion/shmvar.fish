# Completion of shmvar for fish. In ~/.config/fish/config.fish:   shmvar completion fish | source

function __shmvar_complete
    set -l program (commandline -opc)[1]
    set -l line (commandline -cp | string collect)
    set -l answer (command $program __complete fish "$line" 2>/dev/null </dev/null)
    if test "$answer[1]" = files
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $answer[2..-1]
    end
end

complete --command shmvar --no-files --keep-order --arguments '(__shmvar_complete)'
