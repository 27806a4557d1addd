#!/bin/bash
#  What the container would start, with a PostgreSQL beside it: serve.sh USER COMMAND …
set -u
user=$1
shift
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
RUNLEVEL=1 apt-get install -q -y --no-install-recommends postgresql curl procps >/dev/null
free_port ()
{
    perl -MIO::Socket::INET -e 'print IO::Socket::INET->new (Listen => 1, LocalAddr => "127.0.0.1")->sockport'
}
pg=$(echo /usr/lib/postgresql/*/bin) database=$(free_port) port=$(free_port)
mkdir -m 700 /srv/pg && chown postgres /srv/pg
echo secret >/srv/password && chmod 644 /srv/password
runuser -u postgres -- $pg/initdb -D /srv/pg -U busbar_owner -A scram-sha-256 --pwfile /srv/password >/dev/null
runuser -u postgres -- $pg/pg_ctl -D /srv/pg -w -l /tmp/pg.log \
    -o "-p $database -k /tmp -c max_connections=200 -c jit=off" start >/dev/null || exit 1
PGPASSWORD=secret $pg/createdb -h 127.0.0.1 -p "$database" -U busbar_owner busbar || exit 1

cd /
DATABASE_URL=postgresql://busbar_owner:secret@127.0.0.1:$database/busbar PORT=$port \
    setpriv --reuid "$user" --regid "$user" --init-groups "$@" >/tmp/up.out 2>/tmp/up.err &
system=$!
until=$((SECONDS + 120))
until grep -q "^ready http" /tmp/up.out; do
    if ! kill -0 $system 2>/dev/null || [ $SECONDS -gt $until ]; then
        tail -n 40 /tmp/up.err
        exit 1
    fi
    sleep 0.2
done
head -n 1 /tmp/up.out
curl -sf http://127.0.0.1:"$port"/auth/signup -H 'Content-Type: application/json' -d \
    '{"email": "ann@example.org", "name": "Ann", "password": "Correct-horse-7-battery"}' | grep -q token \
    || exit 1
kill -TERM $system
wait $system || exit 1
runuser -u postgres -- $pg/pg_ctl -D /srv/pg -m fast stop >/dev/null
echo "container: done"
