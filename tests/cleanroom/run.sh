#!/bin/bash
#  A minimal Debian in which nobody has ever worked: what the README promises, tried in it from a fresh
#  clone of HEAD by an ordinary user with sudo, then the package. One line of verdict for each room.
#
#      tests/cleanroom/run.sh BUILD          as root
#
#  SUITES="12 13" picks Debian releases, STEPS="tour test package container" what is done there; BENCH=1 adds
#  the bench (of ROWS), its table is kept as bench-12.md. COMMIT is what is cloned, PREVIOUS a commit or package file
#  to upgrade from.
#  The mirror, its keys and what this host trusts come from this host.
set -u

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
place=$(mkdir -p "$1/cleanroom" && cd "$1/cleanroom" && pwd)
#  The tree may be another user's than root's.
printf '[safe]\n\tdirectory = *\n' >"$place/gitconfig"
export GIT_CONFIG_GLOBAL="$place/gitconfig"
commit=$(git -C "$top" rev-parse "${COMMIT:-HEAD}") || exit 1
steps=${STEPS:-tour test package container}
[ -z "${BENCH:-}" ] || steps="$steps bench"

if [ "$(id -u)" != 0 ]; then
    echo "make cleanroom makes whole systems to work in: it must be run by root" >&2
    exit 1
fi
for program in debootstrap unshare; do
    if ! command -v $program >/dev/null; then
        echo "make cleanroom needs $program: apt-get install debootstrap util-linux" >&2
        exit 1
    fi
done

#  Where this host gets Debian from: "uri keyring", of its first source that has a main archive.
source_of_host ()
{
    cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '
        $1 == "URIs:" { uri = $2 }
        $1 == "Signed-By:" { key = $2 }
        /^$/ { show() }
        END { show() }
        function show() { if (uri ~ /debian\/?$/) print uri, key; uri = key = "" }'
    sed -n 's|^deb \(\[.*\] \)\{0,1\}\([^ ]*/debian/\{0,1\}\) .*|\2|p' /etc/apt/sources.list 2>/dev/null
}

#  The base of a release, made once: what every Debian has, and the commands of the README's first line.
make_base ()
{
    local name=$1 root=$2 uri key
    read -r uri key <<<"$(source_of_host | head -n 1)"
    if [ -z "$uri" ]; then
        echo "no Debian mirror in /etc/apt" >&2
        return 1
    fi
    [ -n "$key" ] || key=/usr/share/keyrings/debian-archive-keyring.gpg
    debootstrap --variant=minbase --keyring="$key" --include=ca-certificates,git,make,sudo \
        "$name" "$root" "$uri" || return 1
    rm -f "$root/etc/apt/sources.list"
    cat >"$root/etc/apt/sources.list.d/debian.sources" <<END
Types: deb
URIs: $uri
Suites: $name $name-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: ${uri%/}-security
Suites: $name-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
    chroot "$root" useradd --create-home --shell /bin/bash dev
    echo 'dev ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/dev"
}

#  How this host reaches the world, as it is today.
make_host_settings ()
{
    local root=$1
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    printf '127.0.0.1 localhost cleanroom\n' >"$root/etc/hosts"
    #  A room that loses its power is made anew.
    echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/room"
    apt-config dump | grep -E '^Acquire::(http|https|Check|Retries)' >"$root/etc/apt/apt.conf.d/90host" \
        || true
    if ls /usr/local/share/ca-certificates/*.crt >/dev/null 2>&1; then
        cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
        chroot "$root" update-ca-certificates >/dev/null 2>&1
        printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$root/etc/pip.conf"
    fi
}

#  make_room NUMBER ROOT
make_room ()
{
    local number=$1 root=$2 base="$place/base-$1.tar" name
    case $number in
        12) name=bookworm ;;
        13) name=trixie ;;
        *) echo "cleanroom $number: no such Debian"; return 1 ;;
    esac
    rm -rf --one-file-system "$root"
    mkdir -p "$root" "$place/packages-$number/partial"
    if [ ! -e "$base" ]; then
        make_base $name "$root" && tar -C "$root" --one-file-system -cf "$base.new" . \
            && mv "$base.new" "$base" || return 1
    else
        tar -C "$root" -xf "$base" || return 1
    fi
    make_host_settings "$root"
    mkdir "$root/srv/room"
    cp "$here"/in/*.sh "$root/srv/room/"
    chmod -R go+rX "$root/srv"
}

#  inside ROOT USER COMMAND
inside ()
{
    KEEP="$place/packages-$number" "$here/enter.sh" "$1" su - "$2" -c "$3"
}

step ()
{
    local root=$place/room-$number
    case $1 in
    package)
        if [ -f "${PREVIOUS:-}" ]; then
            install -m 644 "$PREVIOUS" "$root/home/dev/"
        fi
        inside "$root" dev "/srv/room/build.sh ${PREVIOUS:-}" || return 1
        make_room "$number" "$root-package" || return 1
        cp "$root"/home/dev/*.deb "$root-package/srv/room/"
        inside "$root-package" root /srv/room/package.sh
        ;;
    container)
        #  It says which Debian.
        ! grep -q "^FROM debian:$number-slim" "$top/tools/container/Containerfile" || step_container
        ;;
    *)
        inside "$root" dev "ROWS='${ROWS:-}' /srv/room/$1.sh"
        ;;
    esac
}

#  All steps, whatever becomes of the one before; `failed` names those that did not pass.
visit ()
{
    local root=$place/room-$number
    failed=" to come about"
    make_room "$number" "$root" || return 1
    git clone -q --bare "$top" "$root/srv/busbar.git" || return 1
    chown -R --reference="$root/home/dev" "$root/srv/busbar.git"
    inside "$root" dev "git clone -q /srv/busbar.git busbar && git -C busbar checkout -q $commit" || return 1
    git -C "$top" log -1 --format='clone of %h, %s' "$commit"
    failed=
    for name in $steps; do
        echo "== debian $number: $name"
        step "$name" || failed="$failed $name"
    done
    [ ! -e "$root/home/dev/busbar/build/bench.md" ] || \
        cp "$root/home/dev/busbar/build/bench.md" "$place/bench-$number.md"
    [ -z "$failed" ]
}

. "$here/container.sh"

#  Read as a whole before it begins: whoever works on this file meanwhile does no harm.
main ()
{
    local status=0 number failed began log verdict tests
    for number in ${SUITES:-12 13}; do
        began=$SECONDS
        log=$place/room-$number.log
        #  What a failure leaves lying is of use to whoever asks why.
        if visit >"$log" 2>&1; then
            verdict=passed
            rm -rf --one-file-system "$place/room-$number" "$place/room-$number"-*
        else
            verdict="failed:$failed, see $log"
            status=1
        fi
        tests=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)
        echo "cleanroom debian $number: $verdict (${steps// /, }${tests:+: $tests}; $((SECONDS - began)) s)" \
            | tee -a "$log"
    done
    exit $status
}

main
