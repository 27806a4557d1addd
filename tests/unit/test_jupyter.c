//  test_jupyter.c -- signatures, what a kernel may send, and both kernels of Debian driven for
//  real.

#include "kernel_harness.h"

#include "actors/kernels/lenient.h"
#include "actors/kernels/signer.h"

static const sandbox_conf_t conf = {
    .dir = "/tmp", .uid_base = 60600, .uid_count = 64, .disk = 64, .processes = 128
};

static const text_t vector [FRAMES] = {
    { "{\"msg_id\":\"s_1\",\"session\":\"s\",\"username\":\"u\",\"date\":\"2026-01-01T00:00:00."
      "000000Z\","
      "\"msg_type\":\"kernel_info_request\",\"version\":\"5.3\"}",
      136 },
    { "{}", 2 },
    { "{}", 2 },
    { "{}", 2 }
};
static const char signature [] = "ddf0b13d52a680cc006269927ea15539d8706d1ed6f2b3b2921f3bc090c79aca";

//  ---- signatures ----

static void
test_signature_is_the_one_of_the_reference (void **state)
{
    (void) state;
    text_t frames [FRAMES];
    memcpy (frames, vector, sizeof frames);
    frames [0].size = strlen (frames [0].data);
    signer_t *signer = signer_new (TEXT ("a0436f6c-1916-498b-8eb9-e81ab9368e84"));
    char hex [SIGNATURE_SIZE + 1];
    signer_sign (signer, frames, hex);
    assert_string_equal (hex, signature);
    assert_int_equal (signer_check (signer, text_of (signature), frames), SIGNATURE_GOOD);
    assert_int_equal (signer_check (signer, text_of (signature), frames), SIGNATURE_REPLAYED);
    hex [63] ^= 1;
    assert_int_equal (signer_check (signer, text_of (hex), frames), SIGNATURE_FORGED);
    assert_int_equal (signer_check (signer, TEXT (""), frames), SIGNATURE_FORGED);
    signer_destroy (&signer);
    assert_null (signer);
}

static void
test_the_last_signatures_are_remembered (void **state)
{
    (void) state;
    signer_t *signer = signer_new (TEXT ("k"));
    char hex [SIGNATURE_SIZE + 1], number [16];
    text_t frames [FRAMES] = { { number, 0 }, { "{}", 2 }, { "{}", 2 }, { "{}", 2 } };
    for (int round = 0; round < 2; round++)
        for (int n = 0; n < 20000; n++) {
            frames [0].size = (size_t) snprintf (number, sizeof number, "%d", n);
            signer_sign (signer, frames, hex);
            //  In the second round the first half is long forgotten; what was just heard never is.
            assert_int_equal (signer_check (signer, text_of (hex), frames), SIGNATURE_GOOD);
            assert_int_equal (signer_check (signer, text_of (hex), frames), SIGNATURE_REPLAYED);
        }
    signer_destroy (&signer);
}

static void
s_expect_lenient (const char *json, const char *expected)
{
    buf_t packed = { 0 }, text = { 0 };
    assert_true (lenient_read (text_of (json), &packed));
    json_write (mp_buf (&packed), &text);
    buf_putc (&text, 0);
    assert_string_equal ((const char *) text.data, expected);
    buf_free (&packed);
    buf_free (&text);
}

static void
test_output_that_is_no_clean_json_is_kept (void **state)
{
    (void) state;
    s_expect_lenient ("{\"text\":\"a\\u0000b\"}", "{\"text\":\"a\xef\xbf\xbd" "b\"}");
    s_expect_lenient ("{\"text\":\"\\ud800x\\ud83d\\ude00\"}",
                      "{\"text\":\"\xef\xbf\xbdx\xf0\x9f\x98\x80\"}");
    s_expect_lenient ("{\"v\":[NaN,-Infinity,Infinity,\"NaN\"]}",
                      "{\"v\":[null,null,null,\"NaN\"]}");
    s_expect_lenient ("{\"text\":\"\xff\xe2\x82\"}",
                      "{\"text\":\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"}");
    s_expect_lenient ("{\"text\":\"quote \\\" NaN \\u0000\"}",
                      "{\"text\":\"quote \\\" NaN \xef\xbf\xbd\"}");
    buf_t out = { 0 };
    assert_false (lenient_read (TEXT ("{\"text\":"), &out));
    assert_int_equal (out.size, 0);
    buf_free (&out);
}

//  ---- a kernel of our own that sends nonsense ----

static void
s_say (void *socket, const char *const *parts)
{
    for (; *parts; parts++)
        zmq_send (socket, *parts, strlen (*parts), parts [1] ? ZMQ_SNDMORE : 0);
}

static void
test_nonsense_is_counted (void **state)
{
    (void) state;
    bench_t bench = { .loop = loop_new (), .zmq = zmq_ctx_new (), .cap = SIZE_MAX };
    char dir [] = "/tmp/jupXXXXXX", paths [JUPYTER_CHANNELS][64];
    assert_non_null (mkdtemp (dir));
    const char *endpoints [JUPYTER_CHANNELS];
    void *sockets [JUPYTER_CHANNELS];
    for (int n = 0; n < JUPYTER_CHANNELS; n++) {
        snprintf (paths [n], sizeof paths [n], "ipc://%s/s-%d", dir, n);
        sockets [n] = zmq_socket (bench.zmq, n == JUPYTER_IOPUB ? ZMQ_PUB : ZMQ_ROUTER);
        assert_int_equal (zmq_bind (sockets [n], endpoints [n] = paths [n]), 0);
    }
    bench.jupyter = jupyter_new (bench.loop, bench.zmq, TEXT ("key"), &(jupyter_life_t) {
        bench_on_ready, bench_on_message, bench_on_finished, bench_skip, bench_on_lost, &bench });
    assert_true (jupyter_connect (bench.jupyter, endpoints));
    static const char *const nonsense [][12] = {
        { "x", NULL },
        { "<IDS|MSG>", NULL },
        { "<IDS|MSG>", "", "", "", "", NULL },
        { "t", "<IDS|MSG>", "00", "{}", "{}", "{}", "{}", NULL },
        { "t", "<IDS|MSG>", "00", "[]", "{}", "{}", "{}", NULL },
        { "t", "<IDS|MSG>", "00", "{", "}", "\"", "{", NULL },
        { "t", "<IDS|MSG>", signature, "{\"msg_type\":\"stream\"}", "{\"msg_id\":5}", "{}", "{}",
          "buffer", NULL },
        { "t", "t", "t", "<IDS|MSG>", signature, "{\"msg_type\":{}}", "{}", "{}", "{}", NULL },
    };
    uint64_t expected = 50;
    for (int turn = 0; jupyter_stats (bench.jupyter)->received < expected && turn < 2000; turn++) {
        s_say (sockets [JUPYTER_IOPUB], nonsense [turn % 8]);
        loop_turn (bench.loop, 10);
    }
    const jupyter_stats_t *stats = jupyter_stats (bench.jupyter);
    assert_true (stats->received >= expected);
    assert_int_equal (stats->received, stats->malformed + stats->forged);
    assert_true (stats->forged > 0 && stats->malformed > 0);
    assert_false (bench.ready);
    jupyter_destroy (&bench.jupyter);
    for (int n = 0; n < JUPYTER_CHANNELS; n++)
        zmq_close (sockets [n]);
    zmq_ctx_term (bench.zmq);
    loop_destroy (&bench.loop);
    rmdir (dir);
}

//  ---- real kernels ----

static void
test_python_runs_cells (void **state)
{
    (void) state;
    bench_t bench;
    bench_open (&bench, &conf);
    bench_start (&bench, python_argv);
    assert_string_equal (bench_run (&bench, "print ('hello')\n6 * 7"), "hello\n42");
    assert_string_equal (bench.verdict, "ok");
    assert_string_equal (bench_run (&bench, "1 / 0"), "ZeroDivisionError");
    assert_string_equal (bench.verdict, "error");
    assert_string_equal (bench_run (&bench, "x = 'na\\u00efve \\U0001f600'; print (x, '\\0')"),
                         "na\xc3\xafve \xf0\x9f\x98\x80 \xef\xbf\xbd\n");
    assert_string_equal (
        bench_run (
            &bench,
            "import os; pid = os.fork ()\nif pid == 0: os._exit (0)\nos.waitpid (pid, 0) [1]"),
        "0");
    assert_int_equal (
        jupyter_stats (bench.jupyter)->malformed + jupyter_stats (bench.jupyter)->forged, 0);
    bench_close (&bench);
}

static void
test_python_asks_and_is_answered (void **state)
{
    (void) state;
    bench_t bench;
    bench_open (&bench, &conf);
    bench_start (&bench, python_argv);
    assert_false (jupyter_input (bench.jupyter, TEXT ("too early")));
    bench_begin (&bench, "name = input ('who? ')\nprint ('hello', name)");
    assert_true (bench_wait (&bench, &bench.asked, 20));
    assert_true (jupyter_input (bench.jupyter, TEXT ("Ann \"x\"")));
    assert_false (jupyter_input (bench.jupyter, TEXT ("twice")));
    assert_true (bench_wait (&bench, &bench.finished, 20));
    buf_putc (&bench.text, 0);
    assert_string_equal ((const char *) bench.text.data, "who? hello Ann \"x\"\n");
    bench_close (&bench);
}

static void
test_r_runs_cells (void **state)
{
    (void) state;
    bench_t bench;
    bench_open (&bench, &conf);
    bench_start (&bench, r_argv);
    assert_string_equal (bench_run (&bench, "cat ('hello\\n')\nsum (1:10)"), "hello\n[1] 55");
    assert_string_equal (bench_run (&bench, "stop ('no')"), "ERROR");
    assert_string_equal (bench.verdict, "error");
    bench_close (&bench);
}

static void
s_interrupt (const char *const *argv, const char *code, const char *verdict)
{
    bench_t bench;
    bool never = false;
    bench_open (&bench, &conf);
    bench_start (&bench, argv);
    bench_begin (&bench, code);
    //  Until it says that it runs, a signal would only hit what stands before it.
    while (bench.text.size == 0)
        bench_wait (&bench, &never, 1);
    box_signal (bench.box, SIGINT);
    assert_true (bench_wait (&bench, &bench.finished, 10));
    assert_string_equal (bench.verdict, verdict);
    //  It lives on.
    bench_run (&bench, "1");
    assert_false (bench.ended);
    bench_close (&bench);
}

static void
test_python_is_interrupted (void **state)
{
    (void) state;
    s_interrupt (python_argv, "import time\nprint ('go', flush = True)\ntime.sleep (60)", "error");
}

//  An interrupt between the arrival of a request and its first line: ipykernel drops the request.
static void
test_a_request_that_gets_no_reply_is_aborted (void **state)
{
    (void) state;
    bench_t bench;
    bench_open (&bench, &conf);
    bench_start (&bench, python_argv);
    bench_run (&bench, "handlers = get_ipython ().kernel.shell_handlers\n"
                       "real = handlers ['execute_request']\n"
                       "def early (*_):\n"
                       "    handlers ['execute_request'] = real\n"
                       "    raise KeyboardInterrupt\n"
                       "handlers ['execute_request'] = early");
    assert_string_equal (bench.verdict, "ok");
    bench_run (&bench, "'never begun'");
    assert_string_equal (bench.verdict, "aborted");
    assert_int_equal (jupyter_stats (bench.jupyter)->lost_replies, 1);
    assert_string_equal (bench_run (&bench, "'still ' + 'here'"), "'still here'");
    bench_close (&bench);
}

static void
test_r_is_interrupted (void **state)
{
    (void) state;
    s_interrupt (r_argv, "cat ('go\\n'); flush.console ()\nwhile (TRUE) Sys.sleep (0.1)", "abort");
}

static void
test_a_kernel_dies_and_it_is_told (void **state)
{
    (void) state;
    bench_t bench;
    bench_open (&bench, &conf);
    bench_start (&bench, python_argv);
    bench_begin (&bench, "import os, signal\nos.kill (os.getpid (), signal.SIGKILL)");
    assert_true (bench_wait (&bench, &bench.ended, 10));
    assert_false (bench.finished);
    assert_int_not_equal (bench.status, 0);
    bench_close (&bench);
}

//  AddressSanitizer keeps some of what was freed, of each thread, and messages are large.
#ifdef __SANITIZE_ADDRESS__
#define MEMORY_MAX (768 << 20)
#else
#define MEMORY_MAX (256 << 20)
#endif

static void
test_a_flood_is_dropped_unread (void **state)
{
    (void) state;
    bench_t bench;
    bench_open (&bench, &conf);
    bench.cap = 1 << 20;
    bench_start (&bench, python_argv);
    uint64_t before = process_own_memory ();
    bench_run (&bench, "for n in range (6000): print ('y' * 100000)");
    assert_string_equal (bench.verdict, "ok");
    const jupyter_stats_t *stats = jupyter_stats (bench.jupyter);
    print_message ("%llu MB came, %llu messages skipped, broken off %d times\n",
                   (unsigned long long)stats->bytes >> 20, (unsigned long long)stats->skipped,
                   bench.lost);
    assert_true (bench.lost > 0 || stats->bytes > 600000000);
    assert_true (bench.text.size <= 1 << 20);
    assert_true (process_own_memory () - before < MEMORY_MAX);
    bench_run (&bench,
               "import sys\nfor n in range (1000): print ('y' * 1000000); sys.stdout.flush ()");
    print_message ("%llu MB came, %llu messages skipped, broken off %d times\n",
                   (unsigned long long)stats->bytes >> 20, (unsigned long long)stats->skipped,
                   bench.lost);
    assert_true (process_own_memory () - before < MEMORY_MAX + (256 << 20));
    assert_string_equal (bench_run (&bench, "'still ' + 'here'"), "'still here'");
    bench_close (&bench);
}

int
main (int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter (argv [1]);
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_signature_is_the_one_of_the_reference),
        cmocka_unit_test (test_the_last_signatures_are_remembered),
        cmocka_unit_test (test_output_that_is_no_clean_json_is_kept),
        cmocka_unit_test (test_nonsense_is_counted),
        cmocka_unit_test (test_python_runs_cells),
        cmocka_unit_test (test_python_asks_and_is_answered),
        cmocka_unit_test (test_r_runs_cells),
        cmocka_unit_test (test_python_is_interrupted),
        cmocka_unit_test (test_a_request_that_gets_no_reply_is_aborted),
        cmocka_unit_test (test_r_is_interrupted),
        cmocka_unit_test (test_a_kernel_dies_and_it_is_told),
        cmocka_unit_test (test_a_flood_is_dropped_unread),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
