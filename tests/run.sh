#!/bin/sh
#  Unit tests and tests over the API with the programs of one build directory; the last line counts them all.
#
#      UNITS="build/unit/test_… …" tests/run.sh BUILD [pytest arguments …]
set -u

build=$1
shift
passed=0
failed=0

unit_log=$(mktemp)
api_log=$(mktemp)
trap 'rm -f "$unit_log" "$api_log"' EXIT

#  cmocka's own summary says how many; a test that could not end counts as one failure.
for test in ${UNITS:-}; do
    echo "== $test"
    #  What speaks with PostgreSQL gets one of its own.
    with=
    if grep -q 'db_help\|BUSBAR_TEST_DATABASE' "tests/unit/$(basename "$test").c"; then
        with=tests/api/pg_fixture.py
    fi
    $with "$test" >"$unit_log" 2>&1
    code=$?
    good=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$unit_log" | awk '{ n += $1 } END { print n + 0 }')
    bad=$(sed -n 's/^\[  FAILED  \] [^0-9]*\([0-9][0-9]*\) test.*/\1/p' "$unit_log" | awk '{ n += $1 } END { print n + 0 }')
    [ "$code" = 0 ] || [ "$bad" != 0 ] || bad=1
    if [ "$bad" = 0 ]; then
        grep '^skipped: ' "$unit_log" | sort -u
    else
        cat "$unit_log"
    fi
    passed=$((passed + good))
    failed=$((failed + bad))
done

if [ -d tests/api ]; then
    BUSBAR_BIN="$PWD/$build/bin"
    case "$build" in
        /*) BUSBAR_BIN="$build/bin" ;;
    esac
    export BUSBAR_BIN
    /usr/bin/python3 -m pytest -p no:cacheprovider -q -ra "$@" tests/api tests/chaos 2>&1 | tee "$api_log"
    summary=$(grep -E '^(=+ )?[0-9]+ (passed|failed|error)|^no tests ran' "$api_log" | tail -n 1)
    api_passed=$(echo "$summary" | grep -oE '[0-9]+ passed' | grep -oE '[0-9]+')
    api_failed=$(echo "$summary" | grep -oE '[0-9]+ (failed|error)' | awk '{ n += $1 } END { print n + 0 }')
    [ -n "$summary" ] || api_failed=1
    passed=$((passed + ${api_passed:-0}))
    failed=$((failed + ${api_failed:-0}))
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
