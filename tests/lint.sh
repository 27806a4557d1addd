#!/bin/sh
#  Includes against the arrow, actors that include one another, and lines beyond 100 columns.

status=0

complain ()
{
    echo "$1" >&2
    status=1
}

#  May a file of $1 include a header of $2?
allowed ()
{
    case "$1:$2" in
        *:proto | db:db | tools:db | tools:tools | broker:broker | edge:edge) return 0 ;;
        kit:db | kit:kit | actor:db | actor:kit) return 0 ;;
        tests:*) return 0 ;;
    esac
    return 1
}

layer ()
{
    case "$1" in
        actors/kit/*) echo kit ;;
        actors/*) echo actor ;;
        *) echo "${1%%/*}" ;;
    esac
}

for file in "$@"; do
    from=$(layer "$file")
    here=$(dirname "$file")
    for name in $(sed -n 's/^# *include *"\([^"]*\)".*/\1/p' "$file"); do
        if [ -e "$here/$name" ]; then
            path="$here/$name"
        elif [ -e "$name" ]; then
            path="$name"
        elif [ -e "actors/$name" ]; then
            path="actors/$name"
        else
            complain "$file: includes $name, which is nowhere"
            continue
        fi
        to=$(layer "$path")
        if [ "$to" = actor ] && [ "$from" = actor ]; then
            #  A domain that outgrew one file has headers of its own, in its own directory.
            [ "$here" = actors ] || [ "$here" != "$(dirname "$path")" ] || continue
            complain "$file: an actor includes another actor's $path"
        elif ! allowed "$from" "$to"; then
            complain "$file: $from must not include $path"
        fi
    done
    wide=$(LC_ALL=C.UTF-8 grep -nE '^.{101,}' "$file" | head -n 1)
    [ -z "$wide" ] || complain "$file:${wide%%:*}: wider than 100 columns"
done
exit $status
