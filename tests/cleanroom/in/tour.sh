#!/bin/bash
#  As an ordinary user: `make run`, and the README's tour word by word but for the port.
set -u
cd ~/busbar || exit 1
[ -z "$(ls -A ~ | grep -vE '^(\.bash.*|\.profile|\.sudo_as_admin_successful|busbar)$')" ] || exit 1

#  A port of its own: this room shares the network of its host.
port=$(perl -MIO::Socket::INET -e 'print IO::Socket::INET->new (Listen => 1, LocalAddr => "127.0.0.1")->sockport')
PORT=$port make run >/tmp/run.out 2>/tmp/run.err &
runner=$!

fail ()
{
    echo "tour: $*"
    tail -n 40 /tmp/run.out /tmp/run.err
    exit 1
}

#  wait_for SECONDS COMMAND …
wait_for ()
{
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        kill -0 $runner 2>/dev/null || fail "make run ended"
        [ $SECONDS -lt $until ] || fail "waited in vain for $*"
        sleep 0.2
    done
}

wait_for 1800 grep -q "^ready http://127.0.0.1:$port" /tmp/run.out
echo "tour: ready after $SECONDS s"
wait_for 60 grep -q 'sign in  *demo@example.org' /tmp/run.out

#  The block under "Two minutes" that asks for a token, as it is written.
sed -n '/^```sh$/,/^```$/p' README.md | awk '/^```sh/ { n++; next } /^```/ { next } n == 2' \
    | sed "s/127.0.0.1:8002/127.0.0.1:$port/" >/tmp/tour
grep -q 'busbar token' /tmp/tour && grep -q execute /tmp/tour || fail "the README's tour has moved"
. /tmp/tour >/tmp/executed
echo "tour: $(head -c 300 /tmp/executed)"
ch=$(python3 -c 'import json; print (json.load (open ("/tmp/executed")) ["live"] ["ch"])') || fail "no live channel"

busbar sub "$ch" --from 0 >/tmp/events &
subscriber=$!
wait_for 60 grep -q '4\\n' /tmp/events
wait_for 30 grep -q 'execution.finished' /tmp/events
kill $subscriber
echo "tour: $(wc -l </tmp/events) events of the cell"

[ "$(curl -s -o /dev/null -w '%{http_code}' $base/health)" = 200 ] || fail "GET /health"
curl -sf $base/auth/signin -H 'Content-Type: application/json' -d \
    "$(sed -n 's/^ *sign in *\([^ ]*\) *\([^ ]*\)$/{"email": "\1", "password": "\2"}/p' /tmp/run.out)" \
    | grep -q token || fail "the printed way to sign in does not work"

busbar actor tools/examples/hello_actor.py 2>/dev/null &
actor=$!
wait_for 20 curl -sf $base/hello/Ann
curl -s $base/hello/Ann | grep -q 'hello, Ann' || fail "GET /hello/Ann"
busbar call hello.greet name=Ann | grep -q 'hello, Ann' || fail "busbar call hello.greet"
kill $actor

#  The oldest one is the supervisor; nobody else lives in this process namespace.
kill -TERM "$(pgrep -o -x busbar)"
until=$((SECONDS + 60))
while kill -0 $runner 2>/dev/null; do
    [ $SECONDS -lt $until ] || fail "SIGTERM did not end it"
    sleep 0.1
done
left=$(pgrep -l 'busbar|postgres')
[ -z "$left" ] || fail "still there: $left"
echo "tour: done"
