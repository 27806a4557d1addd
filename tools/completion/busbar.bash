#  Completion for bash: commands, the flags that each one's --help names, and what a running system announces.

_busbar_flags ()
{
    busbar "$1" --help 2>/dev/null | grep -o -- '^ *--[a-z][a-z-]*' | tr -d ' '
}

_busbar_methods ()
{
    busbar routes --timeout 1 2>/dev/null | cut -d' ' -f1 | sort -u
}

_busbar ()
{
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]}
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        local commands
        commands=$(busbar --help 2>/dev/null | sed -n 's/^  \([a-z]\{1,\}\)  .*/\1/p')
        COMPREPLY=($(compgen -W "$commands" -- "$word"))
        return
    fi
    case $before in
        --var | --run-dir | --dir)
            COMPREPLY=($(compgen -d -- "$word"))
            return ;;
        --tls-cert | --tls-key | --actor)
            COMPREPLY=($(compgen -f -- "$word"))
            return ;;
        --log-level)
            COMPREPLY=($(compgen -W 'debug info warn error' -- "$word"))
            return ;;
    esac
    case $command:$word in
        *:-*) COMPREPLY=($(compgen -W "$(_busbar_flags "$command")" -- "$word")) ;;
        call:*)
            [ "$COMP_CWORD" != 2 ] || COMPREPLY=($(compgen -W "$(_busbar_methods)" -- "$word")) ;;
        migrate:*) COMPREPLY=($(compgen -W 'up down status new' -- "$word")) ;;
        conform:*)
            [ "$COMP_CWORD" != 2 ] || COMPREPLY=($(compgen -W 'client actor' -- "$word")) ;;
        key:*) COMPREPLY=($(compgen -W 'new' -- "$word")) ;;
        actor:* | backup:* | restore:*) COMPREPLY=($(compgen -f -- "$word")) ;;
    esac
}

complete -o filenames -F _busbar busbar
