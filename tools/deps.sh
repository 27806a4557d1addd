#!/bin/sh
#  Install what building, running and testing needs from Debian 12 or 13, and nothing when all of it is there.
#  "a|b" is satisfied by either; the first is what gets installed.
set -eu

packages='
    gcc make libc6-dev pkgconf|pkg-config
    clang libclang-rt-dev|libclang-rt-14-dev|libclang-rt-19-dev
    libzmq3-dev libpq-dev libjansson-dev libcurl4-openssl-dev libssl-dev libwebsockets-dev
    zlib1g-dev libcrypt-dev libseccomp-dev libgit2-dev libcmocka-dev
    libmariadb-dev libsqlite3-dev mariadb-server
    postgresql|postgresql-15|postgresql-17 bubblewrap
    python3 python3-zmq python3-msgpack python3-pytest python3-pytest-xdist python3-httpx
    python3-websockets python3-psycopg2 python3-nbformat python3-ipykernel r-cran-irkernel
    python3-distributed
    ca-certificates curl git procps sslscan tzdata valgrind'

installed ()
{
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=
for entry in $packages; do
    there=
    for name in $(echo "$entry" | tr '|' ' '); do
        if installed "$name"; then
            there=yes
            break
        fi
    done
    [ -n "$there" ] || missing="$missing ${entry%%|*}"
done

#  Node from elsewhere conflicts with Debian's npm: only what no other source has brought.
command -v node >/dev/null || missing="$missing nodejs"
command -v npm >/dev/null || missing="$missing npm"

[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "missing packages:$missing" >&2
        echo "install them as root: apt-get install$missing" >&2
        exit 1
    fi
    as_root=sudo
fi

echo "installing:$missing"
$as_root apt-get update -q
#  Run level 1 keeps Debian's own PostgreSQL cluster from being started: ours is private.
$as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -q -y --no-install-recommends $missing
