// SPDX-License-Identifier: Apache-2.0
#include "free_port.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNTER "/tmp/kinglet-test-ports"
enum { FIRST = 12000, LAST = 31999 };

static bool is_free(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    int r = bind(fd, (struct sockaddr *)&a, sizeof(a));
    close(fd);
    return r == 0;
}

int ts_free_port(void)
{
    char text[8] = "";
    int fd = open(COUNTER, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        fd = open(COUNTER, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_true(pread(fd, text, sizeof(text) - 1, 0) >= 0);
    int port = atoi(text);
    do
        port = port >= FIRST && port < LAST ? port + 1 : FIRST;
    while (!is_free(port));
    int n = snprintf(text, sizeof(text), "%05d", port);
    assert_int_equal(pwrite(fd, text, (size_t)n, 0), n);
    close(fd);
    return port;
}
