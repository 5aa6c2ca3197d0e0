// SPDX-License-Identifier: Apache-2.0
// A database server for benches and scripts: dbserver postgres|mysql [OPTION OF THE SERVER...].
// Prints its URL (of a database that is made on first use) and its process id as one line, and goes
// with its files when its input ends or it is killed. As the distribution sets it: commits are on
// the disk. A line "restart" of its input kills the server and starts it again.
#include "servers.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static enum ts_kind kind;
static const char *const *args;

static void serve(void **state)
{
    char url[192], buf[64];
    struct ts_server *s = ts_start(kind, &(struct ts_options){.durable = true, .args = args});
    printf("%s %d\n", ts_url(s, "bench", NULL, url, sizeof(url)), (int)ts_pid(s));
    fflush(stdout);
    while (fgets(buf, sizeof(buf), stdin)) {
        if (strcmp(buf, "restart\n") != 0)
            continue;
        ts_kill(s);
        ts_up(s);
    }
    ts_stop(s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(serve)};
    kind = argc > 1 && strcmp(argv[1], "postgres") == 0 ? TS_POSTGRES : TS_MARIADB;
    args = argc > 2 ? (const char *const *)argv + 2 : NULL;
    cmocka_set_message_output(CM_OUTPUT_SUBUNIT);
    return cmocka_run_group_tests_name("dbserver", tests, NULL, NULL);
}
