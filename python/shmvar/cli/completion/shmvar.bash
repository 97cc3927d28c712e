# Completion of shmvar for bash (4.4 or newer). In ~/.bashrc:   eval "$(shmvar completion bash)"

_shmvar() {
    local answer
    COMPREPLY=()
    mapfile -t answer < <("$1" __complete bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null </dev/null)
    if [[ ${answer[0]-} == files ]]; then
        compopt -o default  # bash's own names of files
    else
        COMPREPLY=("${answer[@]:1}")
    fi
}

complete -o nosort -F _shmvar shmvar
