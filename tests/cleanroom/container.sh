#  The Containerfile without a container engine: each stage is a room, each line runs there. Sourced by
#  run.sh; knows FROM, RUN, WORKDIR, COPY of files and from stages, USER, ENTRYPOINT, and nothing else.

#  stage_root NAME
stage_root ()
{
    echo "$place/room-$number-stage-$1"
}

stage_copy ()
{
    local root=$1 workdir=$2 from=$top
    shift 2
    case $1 in
        --from=*) from=$(stage_root "${1#--from=}"); shift ;;
    esac
    case $1 in
        #  What .dockerignore leaves of the tree is what git knows of it.
        .) git -C "$top" archive "$commit" | tar -x -C "$root$workdir" ;;
        *) set +f; cp "$from"/$1 "$root$2" ;;
    esac
}

#  Sets `root` (of the last stage), `user` and `entrypoint`.
build_stages ()
{
    local line word rest workdir=/ count=0
    user=root entrypoint=
    while read -r line; do
        while [ "${line%\\}" != "$line" ] && read -r rest; do line="${line%\\} $rest"; done
        read -r word rest <<<"$line"
        case $word in
        '' | '#'* | VOLUME | EXPOSE) ;;
        FROM)
            case $rest in "debian:$number-slim"*) ;; *) echo "unknown image $rest"; return 1 ;; esac
            root=$(stage_root "$(sed -n 's/.* AS //p' <<<"$rest" | grep . || echo last)")
            make_room "$number" "$root" || return 1
            workdir=/ count=$((count + 1)) ;;
        RUN)
            inside "$root" root "cd $workdir && export DEBIAN_FRONTEND=noninteractive && $rest" || return 1 ;;
        WORKDIR)
            workdir=$rest
            mkdir -p "$root$workdir" ;;
        COPY)
            #  Words, and the pattern stays for the stage that it is matched in.
            set -f
            stage_copy "$root" "$workdir" $rest || return 1
            set +f ;;
        USER) user=$rest ;;
        ENTRYPOINT) entrypoint=$(tr -d '[],"' <<<"$rest") ;;
        *) echo "unknown instruction $word"; return 1 ;;
        esac
    done <"$top/tools/container/Containerfile"
    [ "$count" = 2 ] && [ -n "$entrypoint" ]
}

step_container ()
{
    local root user entrypoint
    build_stages || return 1
    inside "$root" root "/srv/room/serve.sh $user $entrypoint"
}
