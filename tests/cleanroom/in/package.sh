#!/bin/bash
#  As root of a system that has nothing but Debian: install, serve, upgrade, serve, remove, purge. No init
#  runs here, so the unit's own command is run as the unit's user.
set -u
cd /srv/room || exit 1
export DEBIAN_FRONTEND=noninteractive
version=$(ls busbar_*-2_*.deb)
previous=$(ls busbar_*.deb | grep -v -- '-2_')
unit=/usr/lib/systemd/system/busbar.service
port=$(perl -MIO::Socket::INET -e 'print IO::Socket::INET->new (Listen => 1, LocalAddr => "127.0.0.1")->sockport')
base=http://127.0.0.1:$port

fail ()
{
    echo "package: $*"
    tail -n 40 /tmp/up.err 2>/dev/null
    exit 1
}

install_package ()
{
    apt-get install -q -y -o Dpkg::Options::=--force-confold "./$1" || fail "apt-get install $1"
    dpkg -s busbar | grep -q '^Status: install ok installed' || fail "$1 is not configured"
    dpkg -V busbar | grep -v busbar.env && fail "files of $1 are not as packed"
    case $(stat -c '%U:%G %a' /var/lib/busbar/secrets /etc/busbar/busbar.env | tr '\n' ' ') in
        "busbar:busbar 700 root:busbar 640 ") ;;
        *) fail "secrets or settings belong to somebody else" ;;
    esac
    busbar migrate status --var /var/lib/busbar || fail "the schema"
    echo "package: $1 is in"
}

serve ()
{
    local command until=$((SECONDS + 120))
    command=$(sed -n 's/^ExecStart=//p' $unit)
    (cd / && exec runuser -u busbar -- $command) >/tmp/up.out 2>/tmp/up.err &
    service=$!
    until grep -q "^ready $base" /tmp/up.out; do
        kill -0 $service 2>/dev/null || fail "the service ended"
        [ $SECONDS -lt $until ] || fail "the service did not get ready"
        sleep 0.2
    done
    [ "$(curl -s -o /dev/null -w '%{http_code}' $base/health)" = 200 ] || fail "GET /health"
    busbar routes | grep -q workspaces || fail "root does not reach the running system"
}

end ()
{
    local until=$((SECONDS + 60))
    pkill -TERM -o -x -u busbar busbar
    while pgrep -x -u busbar 'busbar|postgres' >/dev/null; do
        [ $SECONDS -lt $until ] || fail "SIGTERM did not end it"
        sleep 0.1
    done
    wait $service
}

apt-get update -q
apt-get install -q -y --no-install-recommends curl procps perl-base man-db >/dev/null
install_package "$previous"
echo "PORT=$port" >>/etc/busbar/busbar.env
serve
auth="Authorization: Bearer $(curl -sf $base/auth/signup -H 'Content-Type: application/json' -d \
    '{"email": "ann@example.org", "name": "Ann", "password": "Correct-horse-7-battery"}' \
    | sed 's/.*"token": *"\([^"]*\)".*/\1/')"
curl -sf $base/workspaces -H "$auth" -H 'Content-Type: application/json' -d '{"name": "kept"}' >/dev/null \
    || fail "POST /workspaces"
busbar backup /var/lib/busbar/before.tar || fail "backup"
end

install_package "$version"
grep -q "PORT=$port" /etc/busbar/busbar.env || fail "the upgrade lost the settings"
serve
auth="Authorization: Bearer $(busbar token --user ann@example.org)"
curl -sf $base/workspaces -H "$auth" | grep -q '"kept"' || fail "the upgrade lost a row"
end

man -w busbar >/dev/null 2>&1 || [ -e /usr/share/man/man1/busbar.1.gz ] || fail "no manual"
apt-get remove -q -y busbar || fail "apt-get remove"
[ -d /var/lib/busbar/pg ] && [ -e /etc/busbar/busbar.env ] || fail "removing took data or settings along"
apt-get purge -q -y busbar || fail "apt-get purge"
left=$(find / -xdev -name '*busbar*' -not -path '/srv/*' -not -path '/proc/*' -not -path '/tmp/*' \
    -not -path '/var/cache/*' -not -path '/var/log/*')
[ -z "$left" ] || fail "purging left $left"
echo "package: done"
