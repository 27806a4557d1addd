#!/bin/sh
#  Unit tests and tests over the API with the programs of one build directory; the last line counts them all.
#
#      UNITS="build/unit/test_… …" [SANITIZED=1] tests/run.sh BUILD [pytest arguments …]
#
#  SUITES names what pytest runs ("none": nothing), WRAP a program that runs each unit test, JOBS how
#  many files of the suites run side by side, each worker with a system of its own (2).
set -u

build=$1
shift
passed=0
failed=0

unit_log=$(mktemp)
api_log=$(mktemp)
reports=$(mktemp -d /tmp/busbar-reports.XXXXXX)
trap 'rm -rf "$unit_log" "$api_log" "$reports"' EXIT

#  What is started again or ends in order would hide what was seen in it: reports go to files, written
#  by whatever user the process is, and each one is a failure.
if [ -n "${SANITIZED:-}" ]; then
    chmod 1777 "$reports"
    #  What was freed is kept for a while; not so much that tests of memory see nothing else.
    export ASAN_OPTIONS="log_path=$reports/report quarantine_size_mb=8"
    export UBSAN_OPTIONS="print_stacktrace=1:log_path=$reports/report"
    #  Processes of other users read the file, too.
    cp tests/unit/tsan.supp "$reports/.tsan.supp"
    chmod 644 "$reports/.tsan.supp"
    export TSAN_OPTIONS="suppressions=$reports/.tsan.supp log_path=$reports/report"
fi

#  cmocka's own summary says how many; a test that could not end counts as one failure.
for test in ${UNITS:-}; do
    echo "== $test"
    #  What speaks with PostgreSQL gets one of its own.
    with=
    if grep -q 'db_help\|guest_help' "tests/unit/$(basename "$test").c"; then
        with=tests/api/pg_fixture.py
    fi
    #  Several words, or none at all.
    $with ${WRAP:-} "$test" >"$unit_log" 2>&1
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

#  The longest first.
suites=${SUITES:-tests/chaos tests/api}
if [ "$suites" != none ]; then
    BUSBAR_BIN="$PWD/$build/bin"
    case "$build" in
        /*) BUSBAR_BIN="$build/bin" ;;
    esac
    export BUSBAR_BIN
    #  They wait more than they compute.
    /usr/bin/python3 -m pytest -p no:cacheprovider -q -ra -n "${JOBS:-2}" --dist loadfile "$@" $suites 2>&1 | tee "$api_log"
    summary=$(grep -E '^(=+ )?[0-9]+ (passed|failed|error)|^no tests ran' "$api_log" | tail -n 1)
    api_passed=$(echo "$summary" | grep -oE '[0-9]+ passed' | grep -oE '[0-9]+')
    api_failed=$(echo "$summary" | grep -oE '[0-9]+ (failed|error)' | awk '{ n += $1 } END { print n + 0 }')
    [ -n "$summary" ] || api_failed=1
    passed=$((passed + ${api_passed:-0}))
    failed=$((failed + ${api_failed:-0}))
fi

for report in "$reports"/*; do
    [ -e "$report" ] || continue
    #  Its stacks; not the map of bytes behind them, which fills what a reader of the end sees.
    sed '/^Shadow bytes around/,/^==/{/^==/!d}' "$report"
    failed=$((failed + 1))
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
