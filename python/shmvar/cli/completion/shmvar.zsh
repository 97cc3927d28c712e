#compdef shmvar
# Completion of shmvar for zsh. In ~/.zshrc, after compinit:   eval "$(shmvar completion zsh)"

_shmvar() {
    local -a answer found shown
    local line each
    line="${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX"
    answer=("${(@f)"$("${words[1]}" __complete zsh "$line" 2>/dev/null </dev/null)"}")
    if [[ $answer[1] == files ]]; then
        _files
        return
    fi
    for each in "${(@)answer[2,-1]}"; do
        found+=("${each%%$'\t'*}")
        shown+=("${each/$'\t'/  -- }")
    done
    (( $#found )) && compadd -l -V shmvar -d shown -a -- found
}

# As a file in $fpath it is the function itself; by eval it is defined only.
if [[ $funcstack[1] == _shmvar ]]; then
    _shmvar "$@"
else
    compdef _shmvar shmvar
fi
