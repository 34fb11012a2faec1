/* base/stop and the agreement to stop: signals, time limits, durations, messages. Each case that
 * changes the program's state runs in a process of its own. */
#include "testing/cmocka_all.h"

#include <mpi.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/stop.h"
#include "comm/context.h"

/* Runs `body` in a child; its exit status, or 128 + the signal that killed it. */
static int in_child(void (*body)(void)) {
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        body();
        _exit(0);
    }
    int state;
    assert_int_equal(waitpid(child, &state, 0), child);
    return WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
}

static void require(bool holds, int number) {
    if (!holds)
        _exit(number);
}

static void nothing_asks(void) {
    lode_stop_install();
    lode_stop_install();
    require(!lode_stop_requested(), 1);
    require(!lode_stop_before(1e9), 2);
    require(strcmp(lode_stop_reason(), "") == 0, 3);
}

static void first_signal_is_named(void) {
    lode_stop_install();
    raise(SIGTERM);
    require(lode_stop_requested() && lode_stop_before(0), 1);
    raise(SIGUSR1);
    raise(SIGUSR2);
    raise(SIGTERM);
    require(strcmp(lode_stop_reason(), "SIGTERM") == 0, 2);
}

static void user_signal(void) {
    lode_stop_install();
    raise(SIGUSR1);
    require(strcmp(lode_stop_reason(), "SIGUSR1") == 0, 1);
}

static void second_interrupt_kills(void) {
    lode_stop_install();
    raise(SIGINT);
    require(lode_stop_requested() && strcmp(lode_stop_reason(), "SIGINT") == 0, 1);
    raise(SIGINT);
    _exit(2);
}

/* A read that a signal hits goes on. */
static void reads_go_on(void) {
    int ends[2];
    char byte = 0;
    lode_stop_install();
    require(pipe(ends) == 0, 1);
    const pid_t parent = getpid(), child = fork();
    if (child == 0) {
        usleep(50000);
        kill(parent, SIGTERM);
        usleep(50000);
        _exit(write(ends[1], "x", 1) != 1);
    }
    require(read(ends[0], &byte, 1) == 1 && byte == 'x', 2);
    require(lode_stop_requested(), 3);
}

static void limit_is_kept(void) {
    lode_stop_install();
    lode_stop_after(1000);
    require(!lode_stop_requested(), 1);
    require(!lode_stop_before(900), 2); /* and a tenth again: 990 s */
    require(lode_stop_before(910), 3);
    require(strcmp(lode_stop_reason(), "the time limit of 1000 s") == 0, 4);
    lode_stop_after(0.001);
    usleep(2000);
    require(lode_stop_requested(), 5);
    raise(SIGTERM);
    require(strcmp(lode_stop_reason(), "SIGTERM") == 0, 6);
    lode_stop_after(0);
    require(lode_stop_requested(), 7); /* the signal's request stays */
}

static void no_limit(void) {
    lode_stop_after(1);
    lode_stop_after(0);
    require(!lode_stop_before(1e12), 1);
}

static void test_requests(void **state) {
    (void)state;
    assert_int_equal(in_child(nothing_asks), 0);
    assert_int_equal(in_child(first_signal_is_named), 0);
    assert_int_equal(in_child(user_signal), 0);
    assert_int_equal(in_child(second_interrupt_kills), 128 + SIGINT);
    assert_int_equal(in_child(reads_go_on), 0);
    assert_int_equal(in_child(limit_is_kept), 0);
    assert_int_equal(in_child(no_limit), 0);
}

/* --- the message ---------------------------------------------------------------------------- */

static void messages(void) {
    int argc = 0, provided;
    char **argv = NULL;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    const lode_comm_t comm = lode_comm_describe(MPI_COMM_WORLD);
    lode_progress_t progress;
    lode_stop_install();
    require(lode_comm_stop(&comm, 1e9) == LODE_OK, 1);
    raise(SIGTERM);
    require(lode_comm_stop(&comm, 0) == LODE_STOPPED, 2);
    require(strcmp(lode_error_message(), "stopped by SIGTERM; what is done is kept; run the same "
                                         "command again to go on") == 0,
            3);
    lode_progress_start(&progress, "accumulate", "micro-batch", 32);
    require(strcmp(lode_progress_text(), "accumulate before micro-batch 1 of 32") == 0, 4);
    lode_progress_add(&progress, 12, 0);
    require(lode_comm_stop(&comm, 0) == LODE_STOPPED, 5);
    require(strcmp(lode_error_message(),
                   "stopped by SIGTERM in accumulate after micro-batch 12 of 32; what is done is "
                   "kept; run the same command again to go on") == 0,
            6);
    lode_progress_end(&progress);
    require(strcmp(lode_progress_text(), "") == 0, 7);
    MPI_Finalize();
}

static void test_messages(void **state) {
    (void)state;
    assert_int_equal(in_child(messages), 0);
    assert_int_equal(LODE_STOPPED, 75);
    assert_string_equal(lode_status_text(LODE_STOPPED), "stopped on request, to be continued");
}

/* --- durations ------------------------------------------------------------------------------ */

static void test_durations(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double seconds; /* 0: none */
    } cases[] = {{"3600", 3600},
                 {"0.5", 0.5},
                 {"3h30m", 12600},
                 {"1d12h", 129600},
                 {"90s", 90},
                 {"1.5h", 5400},
                 {"2m5s", 125},
                 {"1:30:00", 5400},
                 {"90:00", 5400},
                 {"1-02:00:00", 93600},
                 {"0:10", 10},
                 {"36:00:00", 129600},
                 {"", 0},
                 {"0", 0},
                 {"-5", 0},
                 {"5x", 0},
                 {"30m3h", 0},
                 {"3h3h", 0},
                 {"h", 0},
                 {"1:60:00", 0},
                 {"1:2:3:4", 0},
                 {"1:", 0},
                 {":30", 0},
                 {"1-2:00", 0},
                 {"1-02:00:00h", 0},
                 {"1e3", 0},
                 {"nan", 0},
                 {"inf", 0},
                 {"1.2.3", 0},
                 {" 5", 0},
                 {"5 ", 0},
                 {"0x10", 0},
                 {"0h", 0},
                 {"1h30", 0},
                 {"1-1-02:00:00", 0},
                 {"3600,", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double seconds = -1;
        const lode_status_t status = lode_stop_parse(&seconds, cases[i].text);
        if (status != (cases[i].seconds > 0 ? LODE_OK : LODE_ERR_USAGE) ||
            seconds != cases[i].seconds)
            fail_msg("\"%s\" is %g s, status %d", cases[i].text, seconds, (int)status);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
